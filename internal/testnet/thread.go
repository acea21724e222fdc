package testnet

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an OS thread of its own, which dies with it: whatever namespaces fn put the thread into, nothing else
// of the process ever runs there.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- fn()
			return // still locked: the thread ends here
		}
		// The main thread cannot end. Held here, it cannot be picked again.
		err := onThread(fn)
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// netNS is a network namespace that lives as long as its descriptor: no mount, nothing to leave behind in a crash.
type netNS struct{ file *os.File }

func newNetNS() (*netNS, error) {
	var ns *netNS
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		ns = &netNS{f}
		return nil
	})
	return ns, err
}

// do runs fn on a thread inside the namespace.
func (n *netNS) do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return fn()
	})
}

func (n *netNS) fd() int { return int(n.file.Fd()) }

// path names the namespace to other processes while this one lives.
func (n *netNS) path() string { return procPath(n.file) }

func (n *netNS) close() error {
	if n == nil {
		return nil
	}
	return n.file.Close()
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// newMountNS makes a private copy of the mounts, with what prepare mounts in it. It too lives by its descriptor.
func newMountNS(prepare func() error) (*os.File, error) {
	var f *os.File
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare mounts: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := prepare(); err != nil {
			return err
		}
		f, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	return f, err
}

// sysctl writes settings of the calling thread's network namespace; one that the kernel does not have is skipped.
func sysctl(settings map[string]string) error {
	for key, value := range settings {
		err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sysctl net/%s: %w", key, err)
		}
	}
	return nil
}

// spawner is a thread that starts all programs. The kernel ends a program that asked to die with its parent when the thread
// that started it ends, and threads of this process do end: onThread's.
type spawner struct {
	work  chan func()
	ended chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func()), ended: make(chan struct{})}
	go s.run()
	return s
}

func (s *spawner) run() {
	defer close(s.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for fn := range s.work {
		fn()
	}
}

func (s *spawner) do(fn func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- fn() }
	return <-done
}

// close ends the thread. Nobody may call do any more.
func (s *spawner) close() {
	close(s.work)
	<-s.ended
}
