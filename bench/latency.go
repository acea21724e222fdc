package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"fairlead.io/fairlead/bench/load"
	"fairlead.io/fairlead/internal/testnet"
)

// direct is who dials the origin without anybody between.
const direct = "direct"

// paces are the loads under which latency is measured: as those of the same names of pair_h1.
var paces = []load.Pace{
	{Rate: 1000, Connections: 16},
	{Rate: 5000, Connections: 64},
}

// quantiles are those that are looked at.
var quantiles = []struct {
	name string
	of   func(load.Latencies) float64
}{
	{"p50", func(l load.Latencies) float64 { return l.P50 }},
	{"p99", func(l load.Latencies) float64 { return l.P99 }},
	{"p999", func(l load.Latencies) float64 { return l.P999 }},
}

// latencyRounds is how many there are at least: a tail has the most of what else the machine does.
const latencyRounds = 5

func paceName(p load.Pace) string { return fmt.Sprintf("%.0f_rps", p.Rate) }

// measureLatency says by how much a pair raises the latencies. The loop is open: a request's time begins when it was to be sent.
func (s *stage) measureLatency(ctx context.Context, r *report) error {
	k := kinds(1)[0]
	everybody := append([]contender{s.straight()}, s.contenders(k)...)
	wanted := paces
	if s.o.quick {
		wanted = paces[:1]
	}
	for _, p := range wanted {
		p.Warm = int(p.Rate / 2)
		p.Requests = p.Warm + int(p.Rate)*s.o.seconds
		t := &turns{list: slices.Clone(everybody)}
		for round := range max(s.o.rounds, latencyRounds) {
			got, err := s.paceAll(ctx, t, p, round)
			if err != nil {
				r.leave(t.left)
				return err
			}
			for _, c := range inRound(t.list, round) {
				for _, q := range quantiles {
					r.note(q.name+"_"+paceName(p), c.name, "µs", q.of(got[c.name]))
					if c.name != direct {
						r.note(q.name+"_added_"+paceName(p), c.name, "µs", q.of(got[c.name])-q.of(got[direct]))
					}
				}
			}
		}
		r.leave(t.left)
	}
	return nil
}

// paceAll gives everybody a turn.
func (s *stage) paceAll(ctx context.Context, t *turns, p load.Pace, round int) (map[string]load.Latencies, error) {
	got := map[string]load.Latencies{}
	for _, c := range inRound(t.list, round) {
		l, err := s.pace(ctx, c, p)
		if err != nil && c.name != direct {
			err = errors.Join(ctx.Err(), t.drop(c, "latency at "+paceName(p), err))
		}
		if err != nil {
			return nil, err
		}
		got[c.name] = l
	}
	return got, nil
}

func (s *stage) pace(ctx context.Context, c contender, p load.Pace) (load.Latencies, error) {
	var l load.Latencies
	args := []string{"pace", "--to=" + c.target, "--host=" + authority, "--path=" + itemPath, "--connections=" + strconv.Itoa(p.Connections),
		"--rate=" + strconv.FormatFloat(p.Rate, 'f', -1, 64), "--requests=" + strconv.Itoa(p.Requests), "--warm=" + strconv.Itoa(p.Warm)}
	out, err := s.drive(ctx, c.client, append(args, fieldArgs()...)...)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(out, &l); err != nil {
		return l, fmt.Errorf("read latencies: %w", err)
	}
	if want := p.Requests - p.Warm; l.Requests != want {
		return l, fmt.Errorf("%d requests were counted, want %d", l.Requests, want)
	}
	return l, nil
}

func fieldArgs() []string {
	var args []string
	for _, f := range requestFields {
		args = append(args, "--field="+f)
	}
	return args
}

// drive runs a load of our own in a pod.
func (s *stage) drive(ctx context.Context, p *testnet.Pod, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.Run(ctx, testnet.Command{Path: s.o.own("drive"), Args: args})
}
