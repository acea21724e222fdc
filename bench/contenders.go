package main

import (
	"errors"
	"fmt"

	"fairlead.io/fairlead/internal/testnet"
)

// fairlead is our name among the contenders.
const fairlead = "fairlead"

// contender is who carries the requests of a kind.
type contender struct {
	name    string
	client  *testnet.Pod
	target  string
	proxies []*testnet.Process
	workers []int // children of theirs that do the work
	mesh    bool
	guest   bool // has fewer turns
}

// pids are those of all its proxies.
func (c contender) pids() []int {
	pids := make([]int, len(c.proxies), len(c.proxies)+len(c.workers))
	for i, p := range c.proxies {
		pids[i] = p.PID()
	}
	return append(pids, c.workers...)
}

// ours is Fairlead, which carries what goes to a Service's address.
func (s *stage) ours(addr string, port int) contender {
	c := contender{name: fairlead, client: s.meshed.client, target: fmt.Sprintf("%s:%d", addr, port), mesh: true}
	for _, n := range s.mesh.Nodes {
		c.proxies = append(c.proxies, n.Keeper, n.Proxy)
	}
	return c
}

// beside is who listens in the pod of the client outside the mesh.
func (s *stage) beside(name string, port int, proxies ...*testnet.Process) contender {
	return contender{name: name, client: s.plain.client, target: fmt.Sprintf("127.0.0.1:%d", port), proxies: proxies}
}

// contenders are who carries requests of that kind; the first is Fairlead.
func (s *stage) contenders(k kind) []contender {
	a := s.pairs[0].processes[1]
	switch k.way {
	case onePass:
		return []contender{s.ours(s.single, originH1), s.beside("tcp-forwarder", forwardTCP, s.forward), s.beside("haproxy-tcp", haproxyTCP, a)}
	case oneNode:
		return []contender{s.ours(s.nearby, originH1), s.beside(haproxy, haproxyNear, a, s.near[0])}
	}
	all := []contender{s.ours(s.pair, routes[k.protocol].origin)}
	for _, p := range s.pairs {
		c := s.beside(p.name, p.port(k.protocol), p.processes...)
		c.workers, c.guest = p.workers, p.name != haproxy
		all = append(all, c)
	}
	return all
}

// straight is who dials the origin without anybody between.
func (s *stage) straight() contender {
	return contender{name: direct, client: s.plain.client, target: fmt.Sprintf("%s:%d", s.plain.origin.Addr(4), originH1)}
}

// checkPins is an error if a thread is not where it should be, or a program has ended.
func (s *stage) checkPins(c contender) error {
	var errs []error
	for _, pid := range c.pids() {
		errs = append(errs, pinned(pid, s.places.proxies))
	}
	for _, p := range s.origins {
		errs = append(errs, pinned(p.PID(), s.places.load))
	}
	return errors.Join(errs...)
}
