package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// protocol is what client and origin speak.
type protocol int

const (
	http1 protocol = iota
	http2
	grpcUnary
)

// saturated is the load that has the next request sent when the one before is answered.
const saturated = "saturated"

// kind is one question: which protocol, over which way.
type kind struct {
	name     string
	protocol protocol
	loads    []offer
	// onePass: from an enrolled pod to one outside the mesh, on the same node.
	onePass bool
}

// answer is how many bytes the body of each answer has.
func (k kind) answer() int {
	if k.protocol == grpcUnary {
		return answerSize
	}
	return pageSize
}

// kinds are all questions, each load for that many seconds. Those under saturation have as many requests as are served at best: see compare.
func kinds(seconds int) []kind {
	h1 := []offer{
		{name: saturated, clients: 64, streams: 1, requests: 15000 * seconds},
		{name: "rate", clients: 64, streams: 1, rate: 5000, requests: 5000 * seconds},
		{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}
	return []kind{
		{name: "pair_h1", protocol: http1, loads: append(h1, offer{name: "connect", clients: 200 * seconds, streams: 1, requests: 200 * seconds, connect: true})},
		{name: "pair_h2", protocol: http2, loads: []offer{
			{name: saturated, clients: 8, streams: 16, requests: 25000 * seconds},
			{name: "rate", clients: 8, streams: 16, rate: 10000, requests: 10000 * seconds},
			{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}},
		{name: "pair_grpc", protocol: grpcUnary, loads: []offer{
			{name: saturated, clients: 8, streams: 16, requests: 15000 * seconds},
			{name: "rate", clients: 8, streams: 16, rate: 4000, requests: 4000 * seconds},
			{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}},
		{name: "one_node", protocol: http1, loads: []offer{h1[0], h1[2]}, onePass: true},
	}
}

// contender is who carries the requests of a kind.
type contender struct {
	name    string
	client  *testnet.Pod
	target  string
	proxies []*testnet.Process
	mesh    bool
}

func (c contender) pids() []int {
	pids := make([]int, len(c.proxies))
	for i, p := range c.proxies {
		pids[i] = p.PID()
	}
	return pids
}

// sample is one run of one contender.
type sample struct {
	contender string
	requests  int
	steady
}

// measure runs one load through a contender. A request's cost is that on connections that are there; what a connection costs is a load
// of its own, with one request on each.
func (s *stage) measure(ctx context.Context, k kind, l offer, c contender) (sample, error) {
	stop := watch(ctx, c.pids())
	r, err := s.load(ctx, c.client, k, l, c.target)
	if err == nil && l.connect {
		err = pause(ctx, settling) // connections end after the last answer
	}
	marks, werr := stop()
	if err := errors.Join(err, werr, s.checkPins(c)); err != nil {
		return sample{}, err
	}
	if len(marks) < 2 {
		return sample{}, errors.New("the clocks could not be read in time")
	}
	requests, err := parseRequestLog(r.log)
	if err != nil {
		return sample{}, err
	}
	one := sample{contender: c.name, requests: r.succeeded}
	if l.connect {
		cpu := marks[len(marks)-1].cpu.minus(marks[0].cpu)
		one.cpu, one.user, one.rps = cpu.all/time.Duration(r.succeeded), cpu.share(), r.rps
		return one, nil
	}
	one.steady, err = between(marks, requests)
	return one, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// compare runs one load through all contenders, in turn, in the reverse order every other round.
func (s *stage) compare(ctx context.Context, k kind, l offer, rounds int) ([]sample, error) {
	list := s.contenders(k)
	warm := l
	warm.rate, warm.requests = 0, max(2000, 2*l.clients*l.streams)
	slowest := math.Inf(1)
	for _, c := range list {
		r, err := s.load(ctx, c.client, k, warm, c.target)
		if err != nil {
			return nil, fmt.Errorf("warm up %s: %w", c.name, err)
		}
		slowest = min(slowest, r.rps)
	}
	if l.rate == 0 && !l.connect { // on a busy machine, fewer: the time is what is bounded
		l.requests = min(l.requests, max(int(slowest*float64(s.o.seconds)), l.requests/2))
	}
	var samples []sample
	for round := range rounds {
		for i := range list {
			c := list[i]
			if round%2 == 1 {
				c = list[len(list)-1-i]
			}
			counted := s.counting(ctx, k, c)
			one, err := s.measure(ctx, k, l, c)
			if err == nil {
				err = counted(one.requests)
			}
			if err != nil {
				return samples, fmt.Errorf("%s, %s, %s, round %d: %w", k.name, l.name, c.name, round+1, err)
			}
			samples = append(samples, one)
		}
	}
	return samples, nil
}
