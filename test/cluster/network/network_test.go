package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForward(t *testing.T) {
	target := listen(t)
	go echo(target)
	ctx, stop := context.WithCancel(t.Context())
	front := listen(t)
	done := make(chan error, 1)
	go func() { done <- forward(ctx, front, target.Addr().String()) }()
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("over and back")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { // each direction has an end of its own
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "over and back" {
		t.Errorf("got %q, %v", got, err)
	}
	idle, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	stop()
	if err := <-done; err != nil {
		t.Errorf("forward: %v", err)
	}
}

func TestForwardToNobody(t *testing.T) {
	target := listen(t)
	address := target.Addr().String()
	_ = target.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	front := listen(t)
	go func() { _ = forward(ctx, front, address) }()
	conn, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}
}

// TestLinksTwice makes a switch and a node, and all of it once more.
func TestLinksTwice(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("root is needed")
		}
		t.Skip("root is needed")
	}
	hub, node := space(t), space(t)
	for range 2 {
		err := errors.Join(
			hub.MakeBridge(netip.MustParsePrefix("10.89.0.1/24"), netip.MustParsePrefix("fd00::1/64")),
			hub.Cable(node, "n1", netip.MustParsePrefix("10.89.0.11/24"), netip.MustParsePrefix("fd00::11/64")),
			node.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.89.0.1")),
			node.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd00::1")),
			hub.Route(netip.MustParsePrefix("10.244.1.0/24"), netip.MustParseAddr("10.89.0.11")),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	other := space(t) // the node of that name once more, while its old cable is still there
	if err := hub.Cable(other, "n1", netip.MustParsePrefix("10.89.0.11/24")); err != nil {
		t.Fatal(err)
	}
	if _, err := node.handle.LinkByName(uplink); err == nil {
		t.Error("the old cable is still there")
	}
}

// space is the network namespace of a program that does nothing.
func space(t *testing.T) *Space {
	cmd := exec.Command("tail", "-f", "/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	s, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
