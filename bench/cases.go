package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
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

// way is where requests go.
type way int

const (
	pair    way = iota // from an enrolled pod to one on the other node, over mutual TLS
	oneNode            // to one on the same node, over mutual TLS
	onePass            // to one on the same node that is not in the mesh, in plain text
)

// kind is one question: which protocol, over which way.
type kind struct {
	name     string
	protocol protocol
	loads    []offer
	way      way
	size     int  // of the body of an answer, and of gRPC's message both ways; 0 is an ordinary one
	long     bool // not with --quick
}

// path is what is asked for.
func (k kind) path() string {
	switch {
	case k.protocol == grpcUnary:
		return echoPath
	case k.size > 0:
		return sizePath(k.size)
	}
	return itemPath
}

// answer is how many bytes the body of each answer has.
func (k kind) answer() int {
	switch {
	case k.protocol == grpcUnary:
		return frameHead + k.message()
	case k.size > 0:
		return k.size
	}
	return pageSize
}

// message is how many bytes a message of gRPC has.
func (k kind) message() int {
	if k.size > 0 {
		return k.size
	}
	return messageSize
}

// sizes are those of the bodies that kinds of their own have, and how many times fewer requests of them are sent.
var sizes = []struct {
	name          string
	bytes, factor int
}{{"64b", 64, 1}, {"1kib", 1 << 10, 1}, {"64kib", 64 << 10, 4}}

// largeStreams is how many large answers are asked for at once on a connection. With 16 HAProxy 2.6 stands still now and then.
const largeStreams = 4

// kinds are all questions, each load for that many seconds. Those under saturation have as many requests as are served at best: see compare.
func kinds(seconds int) []kind {
	h1 := []offer{
		{name: saturated, clients: 64, streams: 1, seconds: float64(seconds), requests: 15000 * seconds},
		{name: "rate", clients: 64, streams: 1, rate: 5000, requests: 5000 * seconds},
		{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}
	all := []kind{
		{name: "pair_h1", protocol: http1, loads: append(h1, offer{name: "connect", clients: 200 * seconds, streams: 1, requests: 200 * seconds, connect: true})},
		{name: "pair_h2", protocol: http2, loads: []offer{
			{name: saturated, clients: 8, streams: 16, seconds: float64(seconds), requests: 25000 * seconds},
			{name: "rate", clients: 8, streams: 16, rate: 10000, requests: 10000 * seconds},
			{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}},
		{name: "pair_grpc", protocol: grpcUnary, loads: []offer{
			{name: saturated, clients: 8, streams: 16, seconds: float64(seconds), requests: 15000 * seconds},
			{name: "rate", clients: 8, streams: 16, rate: 4000, requests: 4000 * seconds},
			{name: "low", clients: 8, streams: 1, rate: 1000, requests: 1000 * seconds}}},
		{name: "one_node", protocol: http1, loads: []offer{h1[0], h1[2]}, way: onePass},
		{name: "one_node_mtls", protocol: http1, loads: []offer{h1[0], h1[2]}, way: oneNode, long: true},
	}
	for _, k := range all[:3] {
		for _, z := range sizes {
			l := k.loads[0]
			l.seconds, l.requests = l.seconds/2, l.requests/2/z.factor
			if z.factor > 1 {
				l.streams = min(l.streams, largeStreams)
			}
			all = append(all, kind{name: k.name + "_" + z.name, protocol: k.protocol, loads: []offer{l}, size: z.bytes, long: true})
		}
	}
	return all
}

// sample is one run of one contender.
type sample struct {
	contender string
	requests  int
	kib       int // resident memory of all proxies at its end
	garbage   garbage
	steady
}

// measure runs one load through a contender. A request's cost is that on connections that are there; what a connection costs is a load
// of its own, with one request on each.
func (s *stage) measure(ctx context.Context, k kind, l offer, c contender) (sample, error) {
	litter, err := s.littering(ctx, c)
	if err != nil {
		return sample{}, err
	}
	stop := watch(ctx, c.pids())
	r, err := s.load(ctx, c.client, k, l, c.target)
	if err == nil && l.connect {
		err = pause(ctx, settling) // connections end after the last answer
	}
	marks, werr := stop()
	if err := errors.Join(err, werr, s.checkPins(c)); err != nil {
		return sample{}, err
	}
	one := sample{contender: c.name, requests: r.succeeded}
	if one.garbage, err = litter(); err != nil {
		return one, err
	}
	if one.kib, err = residents(c.pids()); err != nil {
		return one, err
	}
	if len(marks) < 2 {
		return sample{}, errors.New("the clocks could not be read in time")
	}
	requests, err := parseRequestLog(r.log)
	if err != nil {
		return sample{}, err
	}
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

// warmer is how many times as much is answered by who is no longer cold.
const warmer = 1.5

// requestsAt is how many requests a contender gets that has answered so many in a second when it was cold: where the load is what it can
// answer, fewer of who is slow, or of all on a busy machine, for it is the time that is bounded.
func (l offer) requestsAt(rps float64) int {
	if l.rate > 0 || l.connect {
		return l.requests
	}
	return min(l.requests, max(int(warmer*rps*l.seconds), l.requests/4))
}

// turns are the contenders of one load, and how many requests each gets. Who fails has no more turns: of us it ends the run, of others it is
// said, and they are left out of this load.
type turns struct {
	list     []contender
	requests map[string]int
	left     []left
}

// left is who was left out of a load, and why.
type left struct{ load, contender, why string }

// fewRounds is how many turns guests have, and everybody in what takes long, or is not what the bench is for.
const fewRounds = 3

// inRound are those who are still there, in the reverse order every other round.
func inRound(list []contender, round int) []contender {
	list = slices.DeleteFunc(slices.Clone(list), func(c contender) bool { return c.guest && round >= fewRounds })
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}

// drop leaves a contender out, unless it is us.
func (t *turns) drop(c contender, load string, err error) error {
	if c.mesh {
		return fmt.Errorf("%s, %s: %w", load, c.name, err)
	}
	t.list = slices.DeleteFunc(slices.Clone(t.list), func(o contender) bool { return o.name == c.name })
	t.left = append(t.left, left{load, c.name, err.Error()})
	return nil
}

// turn measures a contender once, with more requests if they were too few to see anything.
func (s *stage) turn(ctx context.Context, k kind, l offer, c contender, requests map[string]int) (sample, error) {
	for most := l.requests; ; requests[c.name] *= 2 {
		l.requests = requests[c.name]
		counted := s.counting(ctx, k, c)
		one, err := s.measure(ctx, k, l, c)
		if errors.Is(err, errShort) && l.requests <= most {
			continue
		}
		if err == nil {
			err = counted(one.requests)
		}
		return one, err
	}
}

// compare runs one load through several contenders, in turn.
func (s *stage) compare(ctx context.Context, k kind, l offer, list []contender, rounds int) ([]sample, []left, error) {
	name := k.name + "/" + l.name
	t := &turns{list: slices.Clone(list), requests: map[string]int{}}
	warm := l
	warm.rate, warm.requests = 0, max(2000, 2*l.clients*l.streams)
	for _, c := range inRound(t.list, 0) {
		r, err := s.load(ctx, c.client, k, warm, c.target)
		if err != nil {
			err = errors.Join(ctx.Err(), t.drop(c, name, fmt.Errorf("warm up: %w", err)))
		}
		if err != nil {
			return nil, t.left, err
		}
		t.requests[c.name] = l.requestsAt(r.rps)
	}
	var samples []sample
	for round := range rounds {
		for _, c := range inRound(t.list, round) {
			one, err := s.turn(ctx, k, l, c, t.requests)
			if err == nil {
				samples = append(samples, one)
				continue
			}
			if err := errors.Join(ctx.Err(), t.drop(c, name, fmt.Errorf("round %d: %w", round+1, err))); err != nil {
				return samples, t.left, err
			}
		}
	}
	samples = slices.DeleteFunc(samples, func(one sample) bool {
		return slices.ContainsFunc(t.left, func(l left) bool { return l.contender == one.contender })
	})
	return samples, t.left, nil
}
