package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

const (
	appName    = "app"    // the service whose pods are replaced
	anchorName = "anchor" // the one whose pod stays
	replicas   = 3
	streams    = 5
	// turnover is the pause between two replacements, and stint how long a pod lives that only calls.
	turnover = 3 * time.Second
	stint    = 2 * time.Second
)

// troupe is who plays: a client on each node that stays, an anchor, and servers and callers that come and go.
type troupe struct {
	*stage
	clients     []*testnet.Pod
	anchor      server
	apps        []server // the oldest first
	made        int      // pods that were made in turn
	app, rooted string   // addresses of the services
}

// enter adds all pods, and waits until every client reaches the servers.
func (t *troupe) enter(ctx context.Context) (err error) {
	if t.app, err = t.addService(appName); err != nil {
		return err
	}
	if t.rooted, err = t.addService(anchorName); err != nil {
		return err
	}
	for i := range t.mesh.Nodes {
		p, err := t.addPod(ctx, i, fmt.Sprintf("client-%d", i), "client", "client")
		if err != nil {
			return err
		}
		t.clients = append(t.clients, p)
	}
	if t.anchor, err = t.addServer(ctx, 1, anchorName, anchorName); err != nil {
		return err
	}
	for range replicas {
		if err := t.grow(ctx); err != nil {
			return err
		}
	}
	return t.await(ctx)
}

// await waits until nothing fails any more: a node learns of a pod a moment after it is there.
func (t *troupe) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		reports, err := t.callAll(ctx, 20, time.Second)
		if err != nil {
			return err
		}
		if sum(reports.Failed) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait until all goes through the mesh: %w: %q", err, reports.First)
		}
	}
}

// grow adds a server, on the nodes in turn.
func (t *troupe) grow(ctx context.Context) error {
	t.made++
	s, err := t.addServer(ctx, t.made%len(t.mesh.Nodes), fmt.Sprintf("%s-%d", appName, t.made), appName)
	if err != nil {
		return err
	}
	t.apps = append(t.apps, s)
	return nil
}

// callAll has every client call at a rate of all together, and adds up how it went.
func (t *troupe) callAll(ctx context.Context, rate int, length time.Duration) (Report, error) {
	var all Report
	var mu sync.Mutex // protects all
	var errs []error
	var wait sync.WaitGroup
	for _, p := range t.clients {
		wait.Go(func() {
			r, err := t.call(ctx, p, float64(rate)/float64(len(t.clients)), length, "--anchor="+t.rooted, "--streams="+strconv.Itoa(streams))
			mu.Lock()
			defer mu.Unlock()
			all.add(r)
			all.Took = max(all.Took, r.Took)
			errs = append(errs, err)
		})
	}
	wait.Wait()
	return all, errors.Join(errs...)
}

func (t *troupe) call(ctx context.Context, p *testnet.Pod, rate float64, length time.Duration, args ...string) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, length+2*limit)
	defer cancel()
	var errs bytes.Buffer
	c := t.own("call", append([]string{"call", "--to=" + t.app, "--rate=" + strconv.FormatFloat(rate, 'f', -1, 64), "--for=" + length.String()}, args...)...)
	c.Stderr = &errs
	out, err := p.Run(ctx, testnet.Command{Path: c.Path, Args: c.Args, Stderr: &errs})
	if err != nil {
		return Report{}, fmt.Errorf("call from %s: %w: %s", p.Name, err, errs.String())
	}
	return read[Report](out)
}

// saturation is how many requests a second are answered at most, with as many clients as the soak has.
func (t *troupe) saturation(ctx context.Context) (float64, error) {
	r, err := t.callAll(ctx, 0, saturating)
	if err == nil && sum(r.Failed) > 0 {
		err = fmt.Errorf("%d requests failed: %q", sum(r.Failed), r.First)
	}
	return float64(sum(r.OK)) / r.Took, err
}

// last has all play for the length of the soak while samples are taken.
func (t *troupe) last(ctx context.Context, p *probe, v *Verdict) ([]sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		report Report
		err    error
	}
	called := make(chan outcome, 1)
	go func() {
		r, err := t.callAll(ctx, v.Rate, t.cfg.Length)
		called <- outcome{r, err}
	}()
	// The last replacement ends before the calls do.
	turning, stop := context.WithTimeout(ctx, t.cfg.Length-notice-turnover)
	defer stop()
	turned := make(chan error, 1)
	go func() { turned <- t.turn(turning, ctx, v) }()
	all, err := p.sample(ctx, t.cfg.Length, t.say)
	if err != nil {
		cancel()
	}
	got := <-called
	err = errors.Join(err, <-turned, got.err)
	v.take(got.report)
	v.Renewals = p.renewals
	return all, err
}

// turn replaces servers, one after the other, and has pods with accounts of their own call for a moment, until one context ends; the
// other is for what was begun.
func (t *troupe) turn(until, ctx context.Context, v *Verdict) error {
	for n := 1; until.Err() == nil; n++ {
		if err := t.grow(ctx); err != nil {
			return err
		}
		old := t.apps[0]
		t.apps = t.apps[1:]
		if err := t.retire(ctx, old); err != nil {
			return err
		}
		v.Replaced++
		if until.Err() != nil {
			return nil
		}
		name := fmt.Sprintf("job-%d", n)
		p, err := t.addPod(ctx, n%len(t.mesh.Nodes), name, "job", name)
		if err != nil {
			return err
		}
		r, err := t.call(ctx, p, 20, stint)
		if err := errors.Join(err, t.deletePod(ctx, p)); err != nil {
			return err
		}
		v.take(r)
		v.Accounts++
		_ = pause(until, turnover) // its end is looked at next
	}
	return nil
}

// exit takes everybody down.
func (t *troupe) exit(ctx context.Context) error {
	for _, s := range append(t.apps, t.anchor) {
		if err := t.retire(ctx, s); err != nil {
			return err
		}
	}
	for _, p := range t.clients {
		if err := t.deletePod(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
