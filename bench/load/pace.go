// Package load makes what h2load cannot: requests at their time whatever became of those before, bulk over opaque TCP, and connections
// that are held.
//
// Promises:
//  1. A request's time runs from the moment at which it was to be sent: one that had to wait for the one before it, on the same
//     connection, counts its waiting.
//  2. An answer that is not 200, or does not come whole, is a failure.
//  3. Nothing outlives the context.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pace is an open loop of HTTP/1.1 requests.
type Pace struct {
	Addr        string
	Host        string
	Path        string
	Fields      []string // "name: value"
	Connections int
	Rate        float64 // requests a second, over all connections in turn
	Requests    int
	Warm        int // of them, at the beginning, that are not counted
}

// Latencies is what came of it, in microseconds.
type Latencies struct {
	Requests int     `json:"requests"`
	P50      float64 `json:"p50_us"`
	P90      float64 `json:"p90_us"`
	P99      float64 `json:"p99_us"`
	P999     float64 `json:"p999_us"`
	Max      float64 `json:"max_us"`
}

// backlog is how many requests may wait for one connection.
const backlog = 4096

// Run sends all requests and waits for their answers.
func (p Pace) Run(ctx context.Context) (Latencies, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lines := make([]*line, p.Connections)
	for i := range lines {
		l, err := p.dial(ctx)
		if err != nil {
			return Latencies{}, errors.Join(err, closeAll(lines[:i]))
		}
		lines[i] = l
	}
	var all sync.WaitGroup
	for _, l := range lines {
		all.Go(func() {
			if err := l.serve(ctx); err != nil {
				cancel(err)
			}
		})
	}
	p.pace(ctx, lines)
	all.Wait()
	if err := errors.Join(context.Cause(ctx), closeAll(lines)); err != nil {
		return Latencies{}, err
	}
	var took []time.Duration
	for _, l := range lines {
		took = append(took, l.took...)
	}
	return summary(took), nil
}

func closeAll(lines []*line) error {
	var errs []error
	for _, l := range lines {
		errs = append(errs, l.conn.Close())
	}
	return errors.Join(errs...)
}

// pace hands out the requests, each at its time. The thread sleeps by itself: the runtime's timers are good to a millisecond only.
func (p Pace) pace(ctx context.Context, lines []*line) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // else 50 µs
	defer func() {
		for _, l := range lines {
			close(l.due)
		}
	}()
	begin := time.Now()
	for i := range p.Requests {
		at := begin.Add(time.Duration(float64(i) / p.Rate * float64(time.Second)))
		for d := time.Until(at); d > 0 && ctx.Err() == nil; d = time.Until(at) {
			t := unix.NsecToTimespec(int64(min(d, 100*time.Millisecond)))
			_ = unix.Nanosleep(&t, nil) // one that was interrupted is gone on with
		}
		select {
		case <-ctx.Done():
			return
		case lines[i%len(lines)].due <- due{at, i >= p.Warm}:
		}
	}
}

// due is a request's time, and whether it counts.
type due struct {
	at    time.Time
	count bool
}

// line is one connection.
type line struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	due     chan due
	took    []time.Duration
}

func (p Pace) dial(ctx context.Context) (*line, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	return &line{conn: c, in: bufio.NewReader(c), request: head(p.Path, p.Host, p.Fields), due: make(chan due, backlog)}, nil
}

func head(path, host string, fields []string) []byte {
	b := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, host)
	for _, f := range fields {
		b = append(append(b, f...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// serve sends what is due, one request after the other.
func (l *line) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })()
	for d := range l.due {
		if err := exchange(l.conn, l.in, l.request); err != nil {
			return err
		}
		if d.count {
			l.took = append(l.took, time.Since(d.at))
		}
	}
	return nil
}

// exchange sends a request and reads its answer whole.
func exchange(c net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer: %s", resp.Status)
	}
	return nil
}

func summary(took []time.Duration) Latencies {
	if len(took) == 0 {
		return Latencies{}
	}
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[min(int(share*float64(len(took))), len(took)-1)]) / float64(time.Microsecond)
	}
	return Latencies{Requests: len(took), P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: at(1)}
}
