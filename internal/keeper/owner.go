package keeper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// errSuperseded says that another keeper has taken over this node.
var errSuperseded = errors.New("a later keeper has taken over")

const ownerFile = "owner"

// owner decides which keeper of a state directory may change what is in force: the one that claimed it last. During an
// update the old one lives on for its proxy's sake; without this it would release the pods that only the new one knows.
//
// A keeper has a number. The file holds the owner's, under a lock of the whole file (flock) that is held while anything is
// changed. Apart from that each keeper locks, as long as it lives, the byte of the file whose offset is its number: the
// kernel takes that lock away from a process that dies, so a number tells whether its keeper lives.
type owner struct {
	file   *os.File
	number int64

	once sync.Once
	gone chan struct{} // closed when a later keeper has been noticed
}

// numbers are below this; a file's offset goes further.
const numbers = 1 << 60

// join makes this process one of the keepers of the directory. It owns nothing yet.
func join(stateDir string) (*owner, error) {
	f, err := os.OpenFile(filepath.Join(stateDir, ownerFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open owner's file: %w", err)
	}
	o := &owner{file: f, number: 1 + rand.Int64N(numbers-1), gone: make(chan struct{})}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: o.number, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock a number of the owner's file: %w", err), f.Close())
	}
	return o, nil
}

// claim takes the directory over. It waits for what another keeper is doing at the moment.
func (o *owner) claim() error {
	err := o.locked(func() error {
		_, err := o.file.WriteAt(fmt.Appendf(nil, "%016x", o.number), 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("claim state directory: %w", err)
	}
	return nil
}

// act runs f while no other keeper acts. Returns errSuperseded if there is a later one.
func (o *owner) act(f func() error) error {
	return o.locked(func() error {
		number, err := o.read()
		if err != nil {
			return err
		}
		if number != o.number {
			o.once.Do(func() { close(o.gone) })
			return errSuperseded
		}
		return f()
	})
}

// read returns the owner's number; 0 if the file has none.
func (o *owner) read() (int64, error) {
	text := make([]byte, 16)
	n, err := o.file.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read owner's file: %w", err)
	}
	number, err := strconv.ParseInt(string(text[:n]), 16, 64)
	if err != nil || number <= 0 || number >= numbers {
		return 0, nil
	}
	return number, nil
}

func (o *owner) locked(f func() error) error {
	if err := unix.Flock(int(o.file.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock owner's file: %w", err)
	}
	return errors.Join(f(), unix.Flock(int(o.file.Fd()), unix.LOCK_UN))
}

// lives tells whether another keeper holds one of the numbers from start on.
func lives(f *os.File, start, n int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: start, Len: n}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("look for other keepers: %w", err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

// Alive tells whether a keeper of the state directory lives, be it an owner or not.
func Alive(stateDir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(stateDir, ownerFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open owner's file: %w", err)
	}
	defer f.Close()
	return lives(f, 0, numbers)
}
