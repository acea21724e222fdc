package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// ErrLeaseLost is returned by Election.Run of a leader that could not renew its lease in time.
var ErrLeaseLost = errors.New("the lease is lost: another replica may lead")

// ElectionConfig configures an Election.
type ElectionConfig struct {
	Client    kubernetes.Interface
	Namespace string
	Name      string // of this replica: its pod's
	// Duration is how long others wait for a leader that is silent, Renew how long a leader tries to renew before
	// it gives up, and Retry the pause between two tries; 15 s, 10 s and 2 s.
	Duration, Renew, Retry time.Duration
	Log                    *slog.Logger
}

// Election decides by the Lease which replica leads.
type Election struct {
	cfg ElectionConfig

	mu     sync.Mutex // protects what follows
	leader string
	leads  bool
}

// NewElection makes an Election; Run takes part in it.
func NewElection(cfg ElectionConfig) *Election {
	if cfg.Duration == 0 {
		cfg.Duration, cfg.Renew, cfg.Retry = 15*time.Second, 10*time.Second, 2*time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Election{cfg: cfg}
}

// Leader is who leads, as far as is known, and whether that is this replica.
func (e *Election) Leader() (name string, own bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leader, e.leads
}

func (e *Election) set(leader string, leads bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leader, e.leads = leader, leads
}

func (e *Election) heard(name string) {
	if name == "" { // the lease was given back
		return
	}
	e.cfg.Log.Info("leader", "replica", name)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leader = name
}

// Run waits for the lease and leads until the context ends: then it gives the lease back, and has lead end after
// that. It returns what lead returns, and ErrLeaseLost if the lease was lost. It works once.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	election, giveBack := context.WithCancel(ctx)
	defer giveBack()
	leading, stop := context.WithCancel(context.WithoutCancel(ctx)) // ends when the lease is no longer ours
	defer stop()
	acquired, over := make(chan struct{}), make(chan struct{})
	elector, err := e.elector(func(context.Context) { close(acquired) })
	if err != nil {
		return err
	}
	go func() {
		defer close(over)
		elector.Run(election)
		stop()
	}()
	select {
	case <-over: // the context has ended before the lease was ours
		return nil
	case <-acquired:
	}
	e.set(e.cfg.Name, true)
	defer e.set("", false)
	e.cfg.Log.Info("this replica leads", "replica", e.cfg.Name)
	err = lead(leading)
	lost := leading.Err() != nil && ctx.Err() == nil
	giveBack()
	<-over
	if lost {
		return fmt.Errorf("lease %s: %w", Controller, errors.Join(ErrLeaseLost, err))
	}
	return err
}

func (e *Election) elector(acquired func(context.Context)) (*leaderelection.LeaderElector, error) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.cfg.Namespace, Name: Controller},
			Client:     e.cfg.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.cfg.Name},
			Labels:     map[string]string{generatedLabel: "true"},
		},
		LeaseDuration: e.cfg.Duration, RenewDeadline: e.cfg.Renew, RetryPeriod: e.cfg.Retry,
		ReleaseOnCancel: true, Name: Controller,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: acquired, OnStoppedLeading: func() {}, OnNewLeader: e.heard},
	})
	if err != nil {
		return nil, fmt.Errorf("take part in the election: %w", err)
	}
	return elector, nil
}
