package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Command is a program to run in a pod or on a node.
type Command struct {
	Path  string // looked up in PATH when it has no slash
	Args  []string
	Env   []string // added to PATH and HOME
	Dir   string
	Stdin io.Reader
	// Stdout and Stderr default to the file Log when that is set, else Start's output is dropped and Run returns it.
	Stdout, Stderr io.Writer
	Log            string // a file name in the lab's log directory, appended to
	UID, GID       int
	Drop           bool   // drop every capability and set no_new_privs
	Cgroup         string // below the pod's or node's cgroup; "" is that itself
}

// place is where a program runs.
type place struct {
	lab      *Lab
	netns    *netNS
	mounts   *os.File
	binds    map[string]string
	hostname string
	cgroup   string
}

// Process is a running program of the lab.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // what Wait gave, once done is closed
}

// start runs c at p. The program ends with the lab at the latest.
func (p *place) start(c Command) (*Process, error) {
	p.lab.procs.Lock()
	defer p.lab.procs.Unlock()
	if p.lab.procs.closed {
		return nil, errors.New("the lab is closed")
	}
	cmd, files, err := p.command(c)
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := p.lab.spawner.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	proc := &Process{cmd: cmd, done: make(chan struct{})}
	p.lab.procs.list[proc] = struct{}{}
	p.lab.procs.wait.Go(func() { proc.reap(p.lab) })
	return proc, nil
}

func (p *Process) reap(l *Lab) {
	p.err = p.cmd.Wait()
	close(p.done)
	l.procs.Lock()
	defer l.procs.Unlock()
	delete(l.procs.list, p)
}

// command builds the re-executed copy that becomes c. The files are the caller's to close once it has started.
func (p *place) command(c Command) (*exec.Cmd, []*os.File, error) {
	path, err := exec.LookPath(c.Path)
	if err != nil {
		return nil, nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	spec := child{Parent: os.Getpid(), NetNS: p.netns.path(), Binds: p.binds, Hostname: p.hostname, Dir: c.Dir, UID: c.UID, GID: c.GID,
		Drop: c.Drop, Path: path, Args: append([]string{c.Path}, c.Args...),
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, c.Env...)}
	if p.mounts != nil {
		spec.MountNS = procPath(p.mounts)
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{childName, string(encoded)}, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe does not keep us
	var files []*os.File
	if c.Log != "" {
		log, err := os.OpenFile(filepath.Join(p.lab.LogDir(), c.Log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, files, err
		}
		files = append(files, log)
		if cmd.Stdout == nil {
			cmd.Stdout = log
		}
		if cmd.Stderr == nil {
			cmd.Stderr = log
		}
	}
	dir, err := openCgroup(filepath.Join(p.cgroup, c.Cgroup))
	if err != nil {
		return nil, files, err
	}
	files = append(files, dir)
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd, files, nil
}

// run runs c to its end or ctx's and returns what it printed to stdout. Its error bears what it printed to stderr.
func (p *place) run(ctx context.Context, c Command) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	proc, err := p.start(c)
	if err != nil {
		return nil, err
	}
	err = proc.Wait(ctx)
	if ctx.Err() != nil {
		_ = proc.Signal(syscall.SIGKILL)
		<-proc.done
	}
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", filepath.Base(c.Path), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// PID is the program's process id: the copy of the calling binary keeps it when it becomes the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns an *exec.ExitError unless it exited with 0.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Signal sends sig to the program alone.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the program as a crash would, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the program to end, and kills it when it has not after the grace period.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return p.Kill()
	}
}

// processes are those that live.
type processes struct {
	sync.Mutex // protects what follows
	list       map[*Process]struct{}
	closed     bool
	wait       sync.WaitGroup
}

// end kills every process and waits until they are reaped. It reports whether it was the first to do so.
func (p *processes) end() bool {
	p.Lock()
	isFirst := !p.closed
	p.closed = true
	for proc := range p.list {
		_ = proc.Signal(syscall.SIGKILL)
	}
	p.Unlock()
	p.wait.Wait()
	return isFirst
}
