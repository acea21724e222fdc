package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Descriptors of the two pipes in the started process; files of the caller's follow.
const (
	goFD    = 3
	readyFD = 4
	// FirstFD is that of the first of cmd.ExtraFiles.
	FirstFD = 5
)

// Spawn starts cmd, has it recorded, lets it go on, and waits until it says that it is ready. The process must be this
// program's, and call Child first. It outlives the caller.
func Spawn(ctx context.Context, cmd *exec.Cmd, record func(ID) error) (ID, error) {
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return ID{}, err
	}
	defer goWrite.Close()
	defer goRead.Close()
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return ID{}, err
	}
	defer readyRead.Close()
	defer readyWrite.Close()
	cmd.ExtraFiles = append([]*os.File{goRead, readyWrite}, cmd.ExtraFiles...)
	if err := cmd.Start(); err != nil {
		return ID{}, err
	}
	_ = readyWrite.Close() // so that its end is the process's
	id, err := Of(cmd.Process.Pid)
	if err == nil {
		err = record(id)
	}
	if err != nil {
		_ = goWrite.Close() // it ends by that
		return ID{}, errors.Join(err, cmd.Wait())
	}
	if _, err := goWrite.Write([]byte{1}); err != nil {
		return id, fmt.Errorf("let the process begin: %w", err)
	}
	go func() { _ = cmd.Wait() }() // should it end while we live, it is not to stay as a zombie
	return id, awaitReady(ctx, readyRead)
}

// awaitReady reads what the process says: nothing but "ok" is well.
func awaitReady(ctx context.Context, pipe *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said, err := io.ReadAll(io.LimitReader(pipe, 4096))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it did not become ready: %w", ctx.Err())
	case err != nil:
		return err
	case string(said) == "ok":
		return nil
	case len(said) == 0:
		return errors.New("it ended before it was ready")
	default:
		return errors.New(strings.TrimSpace(string(said)))
	}
}

// Child is the started process's end of Spawn.
type Child struct{}

// Await returns when the parent has recorded this process, or an error if it ended before.
func (Child) Await() error {
	pipe := os.NewFile(goFD, "go")
	defer pipe.Close()
	if n, err := pipe.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the parent has gone: %w", err)
	}
	return nil
}

// Ready tells the parent that all is well, or what is not.
func (Child) Ready(failure error) {
	pipe := os.NewFile(readyFD, "ready")
	defer pipe.Close()
	if failure != nil {
		fmt.Fprint(pipe, failure)
		return
	}
	fmt.Fprint(pipe, "ok")
}
