package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"fairlead.io/fairlead/examples/vote"
)

// refresh is how often the summary is drawn anew.
const refresh = 2 * time.Second

// show serves the vote page and draws the summary until ctx ends.
func (s *stage) show(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	l, err := net.Listen("tcp", s.o.listen)
	if err != nil {
		return fmt.Errorf("serve the vote page: %w", err)
	}
	served.Go(func() { s.forward(ctx, l) })
	var last map[edge]sample
	for {
		text := s.header()
		if s.mesh != nil {
			now, err := s.scrape(ctx)
			proved, perr := s.identities(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err = errors.Join(err, perr); err != nil {
				text += fmt.Sprintf("\n  no metrics: %v\n", err)
			} else {
				text += table(now, last, proved)
				last = now
			}
		}
		fmt.Print("\x1b[H\x1b[2J", text)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(refresh):
		}
	}
}

func (s *stage) header() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Fairlead: two nodes, %d pods. The vote page: http://%s/   (Ctrl-C stops)\n", len(s.pods), s.o.listen)
	if t, err := s.tally(); err == nil {
		fmt.Fprintf(&b, "The bot has sent %d requests; %d votes for the doughnut failed as they always do, %d requests failed unexpectedly.\n",
			t.Total, t.Failed["doughnut"], t.Unexpected)
	}
	seen := s.capture.Stats()
	fmt.Fprintf(&b, "On the wire: %d packets between pods, %d of %d connections TLS, plaintext found %d times.\n",
		seen.Packets, seen.TLSFlows, seen.Flows, seen.Hits[vote.Marker])
	return b.String()
}

// forward passes connections to this machine on to the front, one to one.
func (s *stage) forward(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				fmt.Fprintln(os.Stderr, "demo: accept:", err)
			}
			return
		}
		open.Go(func() { s.pipe(ctx, c) })
	}
}

func (s *stage) pipe(ctx context.Context, c net.Conn) {
	defer c.Close()
	up, err := s.page(ctx)
	if err != nil {
		return
	}
	defer up.Close()
	stop := context.AfterFunc(ctx, func() { c.Close(); up.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, up) // a browser that leaves is no fault
		c.Close()
	})
	_, _ = io.Copy(up, c)
	up.Close()
	back.Wait()
}
