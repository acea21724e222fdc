package redirect

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// addrsEvery is how often the node's addresses are looked up: a bridge gets its own with the first pod.
const addrsEvery = 2 * time.Second

// withHost calls f with the namespace that the kubelet probes from.
func withHost(cfg Config, f func(*NetNS) error) error {
	if cfg.Probe.HostNetNS != nil {
		return f(cfg.Probe.HostNetNS)
	}
	ns, err := OpenNetNS(filepath.Join(cfg.Proc, "1/ns/net"))
	if err != nil {
		return fmt.Errorf("host's namespace: %w", err)
	}
	defer ns.Close()
	return f(ns)
}

// nodeAddrs are the addresses that probes may come from: those that were given and, if they are to be followed, all
// global ones of the host's devices. One that is down sends nothing, such as the device that IPVS keeps the addresses
// of all services on.
func nodeAddrs(cfg Config) (map[redirectFlAddr]bool, error) {
	want := map[redirectFlAddr]bool{}
	if cfg.Probe.Cgroup != "" {
		return want, nil
	}
	for _, a := range cfg.Probe.NodeAddrs {
		want[mapped(a)] = true
	}
	if !cfg.Probe.FollowAddrs {
		return want, nil
	}
	err := withHost(cfg, func(ns *NetNS) error {
		return ns.Do(func() error {
			addrs, err := addrsOfDevices()
			for _, a := range addrs {
				if a.IsGlobalUnicast() {
					want[mapped(a)] = true
				}
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the node's addresses: %w", err)
	}
	return want, nil
}

// followNode looks up the node's addresses now and then.
func (r *Redirect) followNode() error {
	if !r.cfg.Probe.FollowAddrs || time.Since(r.objects.nodesAt) < addrsEvery {
		return nil
	}
	return r.objects.syncNodes(r.cfg)
}

// syncNodes makes the node's addresses those of the configuration; with the kubelet's cgroup there are none.
func (o *objects) syncNodes(cfg Config) error {
	o.nodesAt = time.Now()
	want, err := nodeAddrs(cfg)
	if err != nil {
		return err
	}
	if maps.Equal(want, o.nodes) {
		return nil
	}
	o.nodes = want
	kept := want
	if room := int(o.maps.FlNodes.MaxEntries()); len(want) > room {
		cfg.Log.Warn("the node has more addresses than are kept: probes from the others are captured", "addresses", len(want), "kept", room)
		kept = map[redirectFlAddr]bool{}
		for _, a := range slices.SortedFunc(maps.Keys(want), func(a, b redirectFlAddr) int { return slices.Compare(a.W[:], b.W[:]) })[:room] {
			kept[a] = true
		}
	}
	if err := syncSet(o.maps.FlNodes, kept, func(redirectFlAddr) bool { return true }); err != nil {
		o.nodes = nil
		return fmt.Errorf("set the node's addresses: %w", err)
	}
	if cfg.Probe.FollowAddrs {
		cfg.Log.Info("addresses of the node", "count", len(kept))
	}
	return nil
}
