package node

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

func testPods() *pods {
	return newPods(newCredentials(nil), &socketPool{}, slog.New(slog.DiscardHandler))
}

// listening returns a listener's descriptor, as the keeper hands them out.
func listening(t *testing.T) (socket.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return socket.Listener{Direction: socket.In, Family: 4, FD: fd}, l.Addr().String()
}

func podNamed(uid string) socket.Pod {
	return socket.Pod{UID: uid, Name: mesh.Name{Namespace: "shop", Name: uid}}
}

func TestPodsThatLeftWhileTheKeeperWasAwayGo(t *testing.T) {
	p := testPods()
	p.begin()
	p.Enrolled(podNamed("a"), nil)
	gone, addr := listening(t)
	p.Enrolled(podNamed("b"), []socket.Listener{gone})
	p.Synced()
	p.begin() // the keeper was restarted
	p.Enrolled(podNamed("a"), nil)
	if _, ok := p.name("b"); !ok {
		t.Fatal("a pod is forgotten before the keeper has said everything")
	}
	p.Synced()
	if _, ok := p.name("b"); ok {
		t.Error("b is kept, though the keeper does not know it any more")
	}
	if _, ok := p.name("a"); !ok {
		t.Error("a is gone")
	}
	if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		c.Close()
		t.Error("b's listener is still open")
	}
	p.Synced() // of no beginning: nothing may go
	if _, ok := p.name("a"); !ok {
		t.Error("a is gone")
	}
}

func TestNewListenersReplaceTheOld(t *testing.T) {
	p := testPods()
	first, at := listening(t)
	p.Enrolled(podNamed("a"), []socket.Listener{first})
	second, now := listening(t)
	p.Enrolled(podNamed("a"), []socket.Listener{second})
	if c, err := net.DialTimeout("tcp", at, time.Second); err == nil {
		c.Close()
		t.Error("the old listener is still open")
	}
	c, err := net.DialTimeout("tcp", now, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	p.Left("a", time.Second)
}

// TestEarlierConnections are those that the keeper has told of last, and of a pod that is here.
func TestEarlierConnections(t *testing.T) {
	p := testPods()
	expect := func(when string, want socket.Earlier) {
		t.Helper()
		if got := p.earlierOf("u1"); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	p.Earlier("u1", socket.Earlier{Connections: 1})
	expect("of a pod that is not here", socket.Earlier{})
	p.Enrolled(socket.Pod{UID: "u1"}, nil)
	p.Earlier("u1", socket.Earlier{Connections: 1000, More: true})
	p.Earlier("u1", socket.Earlier{Connections: 2})
	expect("told twice", socket.Earlier{Connections: 2})
	p.Enrolled(socket.Pod{UID: "u1"}, nil)
	expect("handed over again", socket.Earlier{})
	p.Earlier("u1", socket.Earlier{Connections: 2})
	p.Left("u1", 0)
	p.Enrolled(socket.Pod{UID: "u1"}, nil)
	expect("after it had left", socket.Earlier{})
}
