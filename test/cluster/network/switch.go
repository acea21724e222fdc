// Package network links the nodes of a cluster: each by a cable to a switch, which is a network namespace with a bridge. From
// there everything in the cluster can be reached, by the addresses that nodes, pods and services have.
//
// Promises:
//  1. This machine's own network namespace gets neither a link, an address nor a route: it listens on one port of 127.0.0.1.
//  2. Every function may be called again, and then changes nothing.
package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/proc"
)

const switchName = "cluster-switch"

// maxConnections is how many the switch forwards at once.
const maxConnections = 512

// StartSwitch starts the process that is the switch. It also forwards from listen, an address of this machine, to target,
// one in the cluster: the listener is made here and handed over.
func StartSwitch(ctx context.Context, listen, target netip.AddrPort, log string, record func(proc.ID) error) (proc.ID, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(listen))
	if err != nil {
		return proc.ID{}, fmt.Errorf("listen for the API server (--port takes another): %w", err)
	}
	defer listener.Close()
	inherited, err := listener.File()
	if err != nil {
		return proc.ID{}, err
	}
	defer inherited.Close()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return proc.ID{}, err
	}
	defer out.Close()
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{switchName, target.String()}, Dir: "/", Stdout: out, Stderr: out,
		Env: []string{"PATH=" + os.Getenv("PATH")}, ExtraFiles: []*os.File{inherited}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNET}
	id, err := proc.Spawn(ctx, cmd, record)
	if err != nil {
		return id, fmt.Errorf("start the switch: %w (log: %s)", err, log)
	}
	return id, nil
}

// Main is this program as the switch. It returns false if it was not called as one.
func Main(args []string) (bool, error) {
	if filepath.Base(args[0]) != switchName {
		return false, nil
	}
	if len(args) != 2 {
		return true, errors.New("called by hand")
	}
	if err := (proc.Child{}).Await(); err != nil {
		return true, err
	}
	inherited := os.NewFile(proc.FirstFD, "listener")
	listener, err := net.FileListener(inherited)
	if err == nil {
		err = inherited.Close()
	}
	if err == nil {
		err = os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}
	proc.Child{}.Ready(err)
	if err != nil {
		return true, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return true, forward(ctx, listener, args[1])
}

// forward copies between whoever connects and the target, until ctx is done.
func forward(ctx context.Context, listener net.Listener, target string) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		slots <- struct{}{}
		open.Go(func() {
			defer func() { <-slots }()
			carry(ctx, conn.(*net.TCPConn), target)
		})
	}
}

// carry forwards one connection, each direction to its end.
func carry(ctx context.Context, client *net.TCPConn, target string) {
	defer client.Close()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return // the client sees that nobody is there
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var directions sync.WaitGroup
	for _, d := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		directions.Go(func() {
			_, _ = io.Copy(d[1], d[0])
			_ = d[1].CloseWrite()
		})
	}
	directions.Wait()
}
