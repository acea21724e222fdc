package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/bench/mtls"
	"fairlead.io/fairlead/internal/testnet"
)

// The names that the certificates of a pair's two ends bear: A stands before the client, B before the origin.
const nameA, nameB = "proxy-a", "proxy-b"

// secured is what is added to a port of A for the port of B that it dials.
const secured = 10

// route is one way through a pair.
type route struct {
	protocol protocol
	name     string
	origin   int
	h2       bool // what the application speaks
}

var routes = []route{{http1, "h1", originH1, false}, {http2, "h2", originH2, true}, {grpcUnary, "grpc", originGRPC, true}}

// ports are those of a pair.
type ports int

// The ports of each pair follow these.
const (
	haproxyPorts ports = 9110
	nginxPorts   ports = 9130
	reversePorts ports = 9150
	envoyPorts   ports = 9170
)

// port is where A listens for a protocol.
func (p ports) port(of protocol) int { return int(p) + 1 + int(of) }

// peer is a program that is measured as a pair, with mutual TLS between the two.
type peer struct {
	name string
	ports
	// side is the command of one end; b is the address of the other one, if this is A.
	side func(s *stage, name, b string) (testnet.Command, error)
	// forks: what it does, it does in a child.
	forks bool
}

// running is a pair that runs, A last.
type running struct {
	peer
	processes []*testnet.Process
	workers   []int // children that do the work
}

// peers are all that are wanted here.
func (s *stage) peers() []peer {
	list := []peer{haproxyPeer}
	if s.o.peers {
		list = append(list, nginxPeer, reversePeer)
		if s.o.envoy != "" {
			list = append(list, envoyPeer)
		}
	}
	return list
}

// startPeers starts all pairs.
func (s *stage) startPeers(ctx context.Context) error {
	if err := mtls.WriteCertificates(s.dir, nameA, nameB); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	for _, p := range s.peers() {
		r := running{peer: p}
		err := errors.Join(s.startSide(ctx, &r, s.plain.origin, nameB, ""), s.startSide(ctx, &r, s.plain.client, nameA, s.plain.origin.Addr(4).String()))
		if err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
		s.pairs = append(s.pairs, r)
	}
	near := running{peer: haproxyPeer}
	if err := s.startSide(ctx, &near, s.plain.local, nameB, ""); err != nil {
		return fmt.Errorf("start HAProxy beside the client: %w", err)
	}
	s.near = near.processes
	return nil
}

func (s *stage) startSide(ctx context.Context, r *running, pod *testnet.Pod, name, b string) error {
	c, err := r.side(s, name, b)
	if err != nil {
		return err
	}
	c.Log = fmt.Sprintf("%s-%s-%s.log", r.name, name, pod.Name)
	p, err := pod.Start(c)
	if err != nil {
		return err
	}
	r.processes = append(r.processes, p)
	port := r.port(http1)
	if name == nameB {
		port += secured
	}
	if err := waitListening(ctx, pod, port); err != nil || !r.forks {
		return err
	}
	workers, err := children(ctx, p.PID())
	r.workers = append(r.workers, workers...)
	return err
}

// children are the processes that a process has started, as soon as there are any.
func children(ctx context.Context, pid int) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return nil, err
		}
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			pids := make([]int, len(fields))
			for i, f := range fields {
				if pids[i], err = strconv.Atoi(f); err != nil {
					return nil, err
				}
			}
			return pids, nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for a child of process %d: %w", pid, err)
		}
	}
}

// configFile writes what a program is configured by.
func (s *stage) configFile(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// pem is the file of an end's certificate, and ca that of the CA's.
func pem(dir, name string) string { return filepath.Join(dir, name+".pem") }
func ca(dir string) string        { return filepath.Join(dir, mtls.CAFile) }
