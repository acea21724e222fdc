package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

const (
	idlePods = 110 // as many as a kubelet takes
	// collecting is how long Go's runtime may leave garbage where nothing is allocated, with some time to give it back to the kernel.
	collecting = 140 * time.Second
)

// besideIdlePods says what keeper and proxy of a node hold together for as many idle pods as a node has at most, when garbage is
// collected. That takes a while, in which everything else is done: the node has a lab of its own, where nothing happens.
func besideIdlePods(ctx context.Context, o options, r *report, rest func() error) error {
	began := time.Now()
	return onStage(ctx, o, func(s *stage) error {
		if err := s.addIdlePods(ctx); err != nil {
			return err
		}
		progress("idle_node, to wait", began)
		idle := time.Now()
		if err := rest(); err != nil {
			return err
		}
		if err := pause(ctx, time.Until(idle.Add(collecting))); err != nil {
			return err
		}
		return s.measureNode(r)
	})
}

func (s *stage) addIdlePods(ctx context.Context) error {
	for i := range idlePods {
		name := fmt.Sprintf("idle-%d", i)
		p, err := s.mesh.Nodes[0].AddPod(ctx, testnet.PodSpec{Namespace: meshed, Name: name, Workload: name, Account: name,
			Labels: map[string]string{"app": "idle"}, Retry: 10 * time.Second})
		if err != nil {
			return err
		}
		s.idle = append(s.idle, p)
	}
	return nil
}

// measureNode is what both hold now.
func (s *stage) measureNode(r *report) error {
	node := s.mesh.Nodes[0]
	keeper, err := residents([]int{node.Keeper.PID()})
	proxy, perr := residents([]int{node.Proxy.PID()})
	if err := errors.Join(err, perr); err != nil {
		return err
	}
	r.note("idle_keeper_mib", fairlead, "MiB", float64(keeper)/1024)
	r.note("idle_proxy_mib", fairlead, "MiB", float64(proxy)/1024)
	r.note("idle_node_mib", fairlead, "MiB", float64(keeper+proxy)/1024)
	return nil
}
