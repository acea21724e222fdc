package cni

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// TestACallFollowsTheSuccessor: the earlier keeper lets go of calls that it must not answer any more, those that wait in its queue
// too, and the plugin asks whoever listens by then.
func TestACallFollowsTheSuccessor(t *testing.T) {
	socket := shortDir(t) + "/cni.sock"
	asked := make(chan struct{}, 16)
	old, err := Listen(socket, handlerFunc(func(context.Context, *Request) error {
		asked <- struct{}{}
		return ErrElsewhere
	}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, endOld := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	netns := mustOpenNetNS(t)
	waiting := make(chan error, 1)
	go func() { waiting <- Call(t.Context(), socket, addRequest(), netns) }() // in the queue: nobody accepts yet
	go func() { ended <- old.Run(ctx) }()
	<-asked
	<-asked // it asks again
	var answered atomic.Int64
	next, err := Listen(socket, handlerFunc(func(_ context.Context, r *Request) error {
		if r.NetNS == nil {
			return errors.New("without its namespace")
		}
		answered.Add(1)
		return nil
	}), quiet)
	if err != nil {
		t.Fatal(err)
	}
	nextCtx, endNext := context.WithCancel(t.Context())
	nextEnded := make(chan error, 1)
	go func() { nextEnded <- next.Run(nextCtx) }()
	if err := <-waiting; err != nil || answered.Load() != 1 {
		t.Errorf("%v, answered %d times", err, answered.Load())
	}
	endOld()
	endNext()
	if err := errors.Join(<-ended, <-nextEnded); err != nil {
		t.Error(err)
	}
}

// TestNobodyToFollow: a keeper that lets go and has no successor costs the budget and no more.
func TestNobodyToFollow(t *testing.T) {
	socket := mustServe(t, func(context.Context, *Request) error { return ErrElsewhere })
	r := addRequest()
	r.Budget = 150
	began := time.Now()
	if err := Call(t.Context(), socket, r, mustOpenNetNS(t)); !errors.Is(err, ErrKeeperAway) || time.Since(began) > time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
