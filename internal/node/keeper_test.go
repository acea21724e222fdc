package node

import (
	"context"
	"crypto/ecdsa"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeKeeper hands out sockets of the test's own namespace, and signs with the keys that it is given.
type fakeKeeper struct {
	t   *testing.T
	hop netip.AddrPort // what hop sockets are bound to; port 0 for any
	err error          // of every call, if set

	mu      sync.Mutex
	asked   []int          // of each call of Sockets
	made    map[int]uint64 // every descriptor, and its inode
	hops    int
	entered chan struct{} // if set, Sockets says here that it was called,
	release chan struct{} // and waits for this
	keys    map[mesh.Account]*ecdsa.PrivateKey
	signed  int
	verdict map[string]uint64
}

func (k *fakeKeeper) socket() int {
	k.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		k.t.Error(err)
		return -1
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		k.t.Error(err)
	}
	if k.made == nil {
		k.made = map[int]uint64{}
	}
	k.made[fd] = inode(fd)
	return fd
}

func (k *fakeKeeper) Sockets(_ context.Context, _ string, _, n int) ([]int, error) {
	if k.entered != nil {
		k.entered <- struct{}{}
		<-k.release
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, n)
	if k.err != nil {
		return nil, k.err
	}
	var fds []int
	for range n {
		fds = append(fds, k.socket())
	}
	return fds, nil
}

func (k *fakeKeeper) Hop(context.Context, string, netip.Addr) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hops++
	if k.err != nil {
		return -1, k.err
	}
	fd := k.socket()
	if err := unix.Bind(fd, sockaddr(k.hop)); err != nil {
		k.t.Error(err)
	}
	return fd, nil
}

func (k *fakeKeeper) Sign(_ context.Context, a mesh.Account, _ [32]byte, content []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[a] == nil {
		return nil, socket.ErrUnknownAccount
	}
	k.signed++
	return identity.SignCertificateVerify(k.keys[a], content)
}

func (k *fakeKeeper) Verdicts(context.Context) (map[string]uint64, error) { return k.verdict, k.err }
func (k *fakeKeeper) SaveState(context.Context, int) error                { return k.err }
func (k *fakeKeeper) LoadState(context.Context) (int, error)              { return -1, socket.ErrNoState }

// inode tells sockets apart whose descriptors have the same number; 0 is none.
func inode(fd int) uint64 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Ino
}

// open is how many of the sockets made are still open.
func (k *fakeKeeper) open() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for fd, ino := range k.made {
		if inode(fd) == ino {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(time.Millisecond) // between polls; the deadline decides
	}
}

// listenTCP accepts, and answers nothing; it keeps what it accepted until the end.
func listenTCP(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	})
	t.Cleanup(accepting.Wait)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}
