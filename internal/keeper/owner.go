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
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// errSuperseded says that it is not, or not any more, this keeper that decides.
var errSuperseded = errors.New("another keeper decides")

const ownerFile = "owner"

// owner decides which keeper of a state directory may change what is in force: the one that claimed it last. During an
// update two live, each with its own proxy; without this the old one would release the pods that only the new one knows.
//
// A keeper has a number. The file holds the owner's, under a lock of the whole file (flock) that is held while anything is
// changed. Apart from that each keeper locks, as long as it lives, the byte of the file whose offset is its number, and
// another one as long as its proxy serves: the kernel takes these locks away from a process that dies, so a number tells
// whether its keeper lives.
type owner struct {
	file    *os.File
	number  int64
	claimed atomic.Bool

	once sync.Once
	gone chan struct{} // closed when it has been noticed that another keeper decides, or that none does
}

// numbers are below this.
const numbers = 1 << 60 // and from here on the same again, for proxies that serve

// join makes this process one of the keepers of the directory. It owns nothing yet.
func join(stateDir string) (*owner, error) {
	f, err := os.OpenFile(filepath.Join(stateDir, ownerFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open owner's file: %w", err)
	}
	o := &owner{file: f, number: 1 + rand.Int64N(numbers-1), gone: make(chan struct{})}
	if err := o.lock(o.number, unix.F_WRLCK); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// serve tells the others whether this keeper has a proxy that serves.
func (o *owner) serve(serves bool) error {
	if serves {
		return o.lock(numbers+o.number, unix.F_WRLCK)
	}
	return o.lock(numbers+o.number, unix.F_UNLCK)
}

func (o *owner) lock(at int64, kind int16) error {
	lock := unix.Flock_t{Type: kind, Start: at, Len: 1}
	if err := unix.FcntlFlock(o.file.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return fmt.Errorf("lock a number of the owner's file: %w", err)
	}
	return nil
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
	o.claimed.Store(true)
	return nil
}

// release gives the directory back if there is another keeper to take it, one with a proxy that serves.
func (o *owner) release() (released bool, err error) {
	err = o.act(func() error {
		ready, err := lives(o.file, numbers, numbers)
		if err != nil || !ready {
			return err
		}
		released = true
		_, err = o.file.WriteAt(fmt.Appendf(nil, "%016x", 0), 0)
		return err
	})
	if err != nil && !errors.Is(err, errSuperseded) {
		return false, fmt.Errorf("release state directory: %w", err)
	}
	return released, nil
}

// others tells whether another keeper lives, be it an owner or not.
func (o *owner) others() (bool, error) { return lives(o.file, 0, numbers) }

// vacant tells whether no living keeper owns the directory.
func (o *owner) vacant() (bool, error) {
	number, err := o.read()
	if err != nil || number == 0 {
		return err == nil, err
	}
	alive, err := lives(o.file, number, 1)
	return !alive && number != o.number, err
}

// act runs f while no other keeper acts. Returns errSuperseded if this one is not the owner.
func (o *owner) act(f func() error) error {
	if !o.claimed.Load() {
		return errSuperseded
	}
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

// check returns errSuperseded if this keeper is not the owner.
func (o *owner) check() error { return o.act(func() error { return nil }) }

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
