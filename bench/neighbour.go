package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"fairlead.io/fairlead/bench/load"
	"fairlead.io/fairlead/internal/testnet"
)

// The neighbours: a pod that sends ordinary requests, and one that makes new connections, each of which takes a TLS handshake and with it
// more garbage than anything else.
const (
	nobody         = "none"
	neighbourRate  = 3000
	neighbourConns = 50 // a second
	// aheadOf is how long a neighbour is at work before it is looked at, and afterwards.
	aheadOf = time.Second
)

var neighbours = []string{nobody, "requests", "connections"}

// neighbourPace is whose latency is looked at.
var neighbourPace = load.Pace{Rate: 1000, Connections: 16, Warm: 500}

// measureNeighbour says what becomes of a pod's latency when another pod of its node is at work, through the same proxies. What the
// machine itself suffers is seen in who has no proxy.
func (s *stage) measureNeighbour(ctx context.Context, r *report) error {
	pod, err := s.lab.Node(0).AddPod(ctx, testnet.PodSpec{Namespace: meshed, Name: "neighbour", Workload: "neighbour",
		Account: "neighbour", Labels: map[string]string{"app": "neighbour"}, Retry: 10 * time.Second})
	if err != nil {
		return err
	}
	s.idle = append(s.idle, pod)
	ours, theirs := s.contenders(kinds(1)[0])[0], s.contenders(kinds(1)[0])[1]
	bulks := map[string]string{fairlead: fmt.Sprintf("%s:%d", s.pair, originBulk), theirs.name: fmt.Sprintf("127.0.0.1:%d", haproxyBulk),
		direct: fmt.Sprintf("%s:%d", s.plain.origin.Addr(4), originBulk)}
	for round := -1; round < s.o.few(); round++ { // the first warms up: a pod's certificate, and the neighbour's connections
		for i := range neighbours {
			n := neighbours[i]
			if round%2 != 0 {
				n = neighbours[len(neighbours)-1-i]
			}
			for _, c := range []contender{s.straight(), ours, theirs} {
				from := c.client
				if c.mesh {
					from = pod
				}
				near := neighbour{kind: n, pod: from, requests: c.target, connections: bulks[c.name]}
				if err := s.besides(ctx, near, c, round >= 0, r); err != nil {
					return fmt.Errorf("latency of %s, neighbour %s: %w", c.name, n, err)
				}
			}
		}
	}
	return nil
}

// neighbour is a pod that is at work, and where to.
type neighbour struct {
	kind                  string
	pod                   *testnet.Pod
	requests, connections string
}

// besides measures one contender while a neighbour is at work.
func (s *stage) besides(ctx context.Context, n neighbour, c contender, counts bool, r *report) error {
	p := neighbourPace
	seconds := 2 * s.o.seconds
	if !counts {
		seconds = 1
	}
	p.Requests = p.Warm + int(p.Rate)*seconds
	litter, err := s.littering(ctx, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	busy := make(chan error, 1)
	go func() {
		busy <- s.work(ctx, n, time.Duration(float64(p.Requests)/p.Rate*float64(time.Second))+2*aheadOf)
	}()
	if err := pause(ctx, aheadOf); err != nil {
		return err
	}
	l, err := s.pace(ctx, c, p)
	if err != nil {
		cancel()
		return errors.Join(err, <-busy)
	}
	if err := <-busy; err != nil {
		return fmt.Errorf("the neighbour: %w", err)
	}
	g, err := litter()
	if err != nil || !counts {
		return err
	}
	r.note(neighbourFigure(n.kind, "p50"), c.name, "µs", l.P50)
	r.note(neighbourFigure(n.kind, "p99"), c.name, "µs", l.P99)
	r.note(neighbourFigure(n.kind, "p999"), c.name, "µs", l.P999)
	if c.mesh {
		r.note(neighbourFigure(n.kind, "collections"), c.name, "", g.collections)
		if g.collections > 0 { // else neither is known
			r.note(neighbourFigure(n.kind, "gc_percent"), c.name, "%", 100*g.share())
			r.note(neighbourFigure(n.kind, "pause"), c.name, "µs", micros(g.pause()))
		}
	}
	return nil
}

func neighbourFigure(kind, what string) string { return "neighbour_" + kind + "_" + what }

// work is what a neighbour does for that long.
func (s *stage) work(ctx context.Context, n neighbour, d time.Duration) error {
	switch n.kind {
	case nobody:
		return pause(ctx, d)
	case "requests":
		p := load.Pace{Rate: neighbourRate, Connections: 32, Requests: int(neighbourRate * d.Seconds())}
		_, err := s.pace(ctx, contender{client: n.pod, target: n.requests}, p)
		return err
	}
	_, err := s.drive(ctx, n.pod, "dial", "--to="+n.connections, "--rate="+strconv.Itoa(neighbourConns), "--bytes=1024",
		"--connections="+strconv.Itoa(int(neighbourConns*d.Seconds())))
	return err
}
