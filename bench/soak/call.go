package soak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// workers is how many requests of one client are under way at most, but for streams.
	workers = 32
	// anchors is how many streams and how many connections last as long as all of it.
	anchors = 4
)

// Call is a client's work in its pod.
type Call struct {
	To      string        // the address of a service whose endpoints change
	Anchor  string        // that of one whose endpoint stays; may be empty
	Rate    float64       // requests a second; 0 is as many as are answered
	Length  time.Duration // how long
	Streams int           // gRPC streams and opaque connections, each of them, that are always open, for a second or two each
}

// Report is how a client's requests ended.
type Report struct {
	Took   float64 // seconds
	OK     map[string]int
	Failed map[string]int
	First  []string // the first failures
}

// kind is a sort of request, and how many of a hundred are of it.
type kind struct {
	name  string
	share int
	once  func(context.Context, *client) error
}

var mix = []kind{
	{"h1", 38, func(ctx context.Context, c *client) error { return c.web(ctx, c.h1, http.MethodGet, "/", 0, false) }},
	{"h1_post", 6, func(ctx context.Context, c *client) error {
		return c.web(ctx, c.h1, http.MethodPost, "/", 16<<10, false)
	}},
	{"h1_new", 4, func(ctx context.Context, c *client) error { return c.fresh(ctx) }},
	{"h1_cancelled", 1, func(ctx context.Context, c *client) error { return c.cancelled(ctx, c.h1) }},
	{"h2", 26, func(ctx context.Context, c *client) error { return c.web(ctx, c.h2, http.MethodGet, "/", 0, false) }},
	{"h2_post", 4, func(ctx context.Context, c *client) error {
		return c.web(ctx, c.h2, http.MethodPost, "/", 48<<10, false)
	}},
	{"h2_cancelled", 2, func(ctx context.Context, c *client) error { return c.cancelled(ctx, c.h2) }},
	{"grpc", 16, func(ctx context.Context, c *client) error { return c.unary(ctx) }},
	{"tcp", 3, func(ctx context.Context, c *client) error { return c.echo(ctx, func() bool { return true }, 0) }},
}

var kinds = order()

// order spreads the kinds evenly: of any hundred requests in a row, each kind has its share.
func order() []kind {
	const coprime = 37 // to 100: it visits every place once
	all := make([]kind, 100)
	at := 0
	for _, k := range mix {
		for range k.share {
			all[at*coprime%100] = k
			at++
		}
	}
	return all
}

// maxFirst bounds the failures that are named.
const maxFirst = 10

// Run makes requests until the time is over or ctx ends, and waits for what is under way then: each has a limit of its own.
func (c Call) Run(ctx context.Context) (Report, error) {
	r := &runner{Call: c, began: time.Now(), stop: ctx, report: Report{OK: map[string]int{}, Failed: map[string]int{}}}
	var err error
	if r.to, err = newClient(c.To); err != nil {
		return r.report, err
	}
	var anchor *client
	if c.Anchor != "" {
		if anchor, err = newClient(c.Anchor); err != nil {
			return r.report, errors.Join(err, r.to.close())
		}
	}
	var all sync.WaitGroup
	all.Go(r.renew)
	for range workers {
		all.Go(r.request)
	}
	for i := range c.Streams {
		length := time.Duration(1000+200*i) * time.Millisecond
		all.Go(func() { r.chats(length) })
		all.Go(func() { r.echoes(length) })
	}
	for range anchors {
		if anchor != nil {
			all.Go(func() {
				r.add("grpc_anchor", time.Now(), anchor.chat(context.Background(), r.over, time.Second, true))
			})
			all.Go(func() { r.add("tcp_anchor", time.Now(), anchor.echo(context.Background(), r.over, time.Second)) })
		}
	}
	all.Wait()
	r.report.Took = time.Since(r.began).Seconds()
	if anchor != nil {
		err = anchor.close()
	}
	return r.report, errors.Join(err, r.to.close())
}

// runner is a call at work.
type runner struct {
	Call
	began time.Time
	stop  context.Context
	to    *client
	next  atomic.Int64

	mu     sync.Mutex // protects report
	report Report
}

func (r *runner) over() bool { return r.stop.Err() != nil || time.Since(r.began) >= r.Length }

func (r *runner) add(name string, began time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.report.OK[name]++
		return
	}
	r.report.Failed[name]++
	if len(r.report.First) < maxFirst {
		r.report.First = append(r.report.First, fmt.Sprintf("%s, begun at %s, after %v: %v", name, began.Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
	}
}

// request makes the next request, at its time, again and again.
func (r *runner) request() {
	for {
		n := r.next.Add(1) - 1
		if r.Rate > 0 {
			_ = pause(r.stop, time.Until(r.began.Add(time.Duration(float64(n)/r.Rate*float64(time.Second))))) // over looks
		}
		if r.over() {
			return
		}
		k, at := kinds[n%100], time.Now()
		r.add(k.name, at, k.once(context.Background(), r.to))
	}
}

// chats has one stream open, and the next when it ends; every third is given up.
func (r *runner) chats(length time.Duration) {
	for n := 0; !r.over(); n++ {
		at := time.Now()
		err := r.to.chat(context.Background(), func() bool { return r.over() || time.Since(at) >= length }, 50*time.Millisecond, n%3 != 0)
		r.add("grpc_stream", at, err)
	}
}

func (r *runner) echoes(length time.Duration) {
	for !r.over() {
		at := time.Now()
		r.add("tcp_stream", at, r.to.echo(context.Background(), func() bool { return r.over() || time.Since(at) >= length }, 50*time.Millisecond))
	}
}

// renew closes connections that are idle now and then, so that others are made.
func (r *runner) renew() {
	for !r.over() {
		_ = pause(r.stop, min(5*time.Second, r.Length-time.Since(r.began))) // over looks
		r.to.h1.CloseIdleConnections()
		r.to.h2.CloseIdleConnections()
	}
}

// add takes the numbers of another report in.
func (r *Report) add(o Report) {
	if r.OK == nil {
		r.OK, r.Failed = map[string]int{}, map[string]int{}
	}
	for k, n := range o.OK {
		r.OK[k] += n
	}
	for k, n := range o.Failed {
		r.Failed[k] += n
	}
	r.First = append(r.First, o.First[:min(len(o.First), maxFirst-min(len(r.First), maxFirst))]...)
}

func sum(counts map[string]int) int {
	all := 0
	for _, n := range counts {
		all += n
	}
	return all
}
