// Forward is the least that a proxy in Go can do on the product's own loop: it takes a connection, makes one, and passes bytes on.
// What a request costs here is what the sockets cost.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
)

func main() {
	listen := flag.String("listen", "", "address")
	to := flag.String("to", "", "where connections go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *to); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, to string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	l, err := loop.New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- l.Run(ctx) }()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		c, err := listener.Accept()
		if err != nil && ctx.Err() != nil {
			return <-failed
		}
		if err != nil {
			return err
		}
		if err := connect(l, c.(*net.TCPConn), to); err != nil {
			fmt.Fprintln(os.Stderr, "forward:", err)
		}
	}
}

// connect makes the other connection and puts both on the loop. Dials are made one after the other: that is enough here.
func connect(l *loop.Loop, down *net.TCPConn, to string) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		down.Close()
		return err
	}
	a, b := &half{}, &half{}
	a.peer, b.peer = b, a
	if err := l.Attach(down, nil, a.start); err != nil {
		c.Close()
		return err
	}
	return l.Attach(c.(*net.TCPConn), nil, b.start)
}

// half is one of two connections. Bytes come only once the other is there, for the loop reads nothing of a paused one.
type half struct {
	t    exchange.Transport
	peer *half
	gone bool
}

func (h *half) start(t exchange.Transport) exchange.Protocol {
	h.t = t
	switch {
	case h.peer.gone:
		t.Abort()
	case h.peer.t == nil:
		t.Pause()
	default:
		h.peer.t.Resume()
	}
	return h
}

// Feed passes bytes on, and reads no more while the other side does not take them.
func (h *half) Feed(b []byte) (int, error) {
	h.peer.t.Write(b)
	if h.peer.t.Pending() > exchange.HighWater {
		h.t.Pause()
	}
	return len(b), nil
}

// EOF half-closes the other side.
func (h *half) EOF() { h.peer.t.CloseWrite() }

// Writable says that the other side may send again.
func (h *half) Writable() { h.peer.t.Resume() }

// Closed ends the other side too.
func (h *half) Closed(err error) {
	h.gone = true
	if h.peer.t == nil || h.peer.gone {
		return
	}
	if err != nil {
		h.peer.t.Abort()
		return
	}
	h.peer.t.Close()
}
