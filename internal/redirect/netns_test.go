package redirect

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDo(t *testing.T) {
	requireRoot(t)
	w := &world{t: t, dir: t.TempDir()}
	ns := w.newNetNS("x")
	home := must[uint64](t)(netnsCookie())
	if ns.Cookie() == home {
		t.Fatal("not a namespace of its own")
	}
	no := errors.New("no")
	for range 3 {
		err := ns.Do(func() error {
			if c, err := netnsCookie(); c != ns.Cookie() || err != nil {
				t.Errorf("inside: %d, %v", c, err)
			}
			return no
		})
		if !errors.Is(err, no) {
			t.Errorf("Do: %v", err)
		}
		if c, err := netnsCookie(); c != home || err != nil {
			t.Errorf("outside: %d, %v", c, err)
		}
	}
}

// TestThreadThatCannotReturnDies: a thread without the right to go home must not run anything else.
func TestThreadThatCannotReturnDies(t *testing.T) {
	requireRoot(t)
	w := &world{t: t, dir: t.TempDir()}
	ns := w.newNetNS("x")
	tid := 0
	err := ns.Do(func() error {
		tid = unix.Gettid()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		return unix.Capset(&hdr, &none[0])
	})
	if !errors.Is(err, unix.EPERM) {
		t.Fatalf("Do: %v", err)
	}
	eventually(t, 5*time.Second, "the thread ends", func() bool {
		runtime.Gosched()
		return errors.Is(unix.Tgkill(os.Getpid(), tid, 0), unix.ESRCH)
	})
}

func TestDoWhenTheFunctionEndsItsGoroutine(t *testing.T) {
	requireRoot(t)
	w := &world{t: t, dir: t.TempDir()}
	if err := w.newNetNS("x").Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error")
	}
}

func TestOpenNetNSRefuses(t *testing.T) {
	requireRoot(t)
	plain := filepath.Join(t.TempDir(), "plain")
	check(t, os.WriteFile(plain, nil, 0o600))
	for _, path := range []string{plain, plain + "x", "/proc/self/ns/mnt"} {
		if ns, err := OpenNetNS(path); err == nil {
			ns.Close()
			t.Errorf("%s opened", path)
		}
	}
	fds := must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd"))
	if ns, err := NetNSFromFD(must[int](t)(unix.Open(plain, unix.O_RDONLY, 0))); err == nil {
		ns.Close()
		t.Error("a plain file is a namespace")
	}
	if after := must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd")); len(after) != len(fds) {
		t.Errorf("%d descriptors, then %d", len(fds), len(after))
	}
}
