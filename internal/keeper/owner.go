package keeper

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// errSuperseded says that another keeper has taken over this node.
var errSuperseded = errors.New("a later keeper has taken over")

const ownerFile = "owner"

// owner decides which keeper of a state directory may change what is in force: the one that was started last. During an
// update the old one lives on for its proxy's sake; without this it would release the pods that only the new one knows.
type owner struct {
	file  *os.File
	token string

	once sync.Once
	gone chan struct{} // closed when a later keeper has been noticed
}

// claim takes the directory over. It waits for what another keeper is doing at the moment.
func claim(stateDir string) (*owner, error) {
	f, err := os.OpenFile(filepath.Join(stateDir, ownerFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open owner's file: %w", err)
	}
	o := &owner{file: f, token: rand.Text(), gone: make(chan struct{})}
	err = o.locked(func() error {
		_, err := f.WriteAt([]byte(o.token), 0)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim state directory: %w", err), f.Close())
	}
	return o, nil
}

// act runs f while no other keeper acts. Returns errSuperseded if there is a later one.
func (o *owner) act(f func() error) error {
	return o.locked(func() error {
		token := make([]byte, len(o.token))
		if _, err := o.file.ReadAt(token, 0); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read owner's file: %w", err)
		}
		if string(token) != o.token {
			o.once.Do(func() { close(o.gone) })
			return errSuperseded
		}
		return f()
	})
}

func (o *owner) locked(f func() error) error {
	if err := unix.Flock(int(o.file.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock owner's file: %w", err)
	}
	return errors.Join(f(), unix.Flock(int(o.file.Fd()), unix.LOCK_UN))
}
