package redirect

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// syncSet makes the keys of m for which ours holds exactly those of want, each with the value 1: the missing are added
// before the stale are deleted, so that an address that stays is never foreign in between.
func syncSet[K comparable](m *ebpf.Map, want map[K]bool, ours func(K) bool) error {
	var key K
	var value uint32
	have := map[K]bool{}
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if ours(key) {
			have[key] = true
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list %v: %w", m, err)
	}
	for k := range want {
		if have[k] {
			continue
		}
		if err := m.Put(k, uint32(1)); err != nil {
			return fmt.Errorf("add to %v: %w", m, err)
		}
	}
	for k := range have {
		if want[k] {
			continue
		}
		if err := m.Delete(k); err != nil && !isNotFound(err) {
			return fmt.Errorf("delete from %v: %w", m, err)
		}
	}
	return nil
}

// cookies lists every pod that anything in the kernel is kept for: every enrolment begins with fl_undos and every leave
// ends with it, so nothing else has to be looked through.
func (r *Redirect) cookies() (map[uint64]bool, error) {
	have := map[uint64]bool{}
	var cookie uint64
	var undo redirectFlUndo
	undos := r.objects.maps.FlUndos.Iterate()
	for undos.Next(&cookie, &undo) {
		have[cookie] = true
	}
	if err := undos.Err(); err != nil {
		return nil, fmt.Errorf("list enrolled pods: %w", err)
	}
	return have, nil
}

// syncAddrs makes the pod's own addresses and probe ports those of p; nil addresses and ports take all away.
func (r *Redirect) syncAddrs(cookie uint64, p *Pod) error {
	addrs, ports := map[redirectFlAddrKey]bool{}, map[redirectFlPortKey]bool{}
	for _, a := range p.Addrs {
		addrs[redirectFlAddrKey{Cookie: cookie, Addr: mapped(a)}] = true
	}
	for _, port := range p.ProbePorts {
		ports[redirectFlPortKey{Cookie: cookie, Port: uint32(port)}] = true
	}
	err := syncSet(r.objects.maps.FlAddrs, addrs, func(k redirectFlAddrKey) bool { return k.Cookie == cookie })
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	err = syncSet(r.objects.maps.FlProbePorts, ports, func(k redirectFlPortKey) bool { return k.Cookie == cookie })
	if err != nil {
		return fmt.Errorf("probe ports: %w", err)
	}
	return nil
}
