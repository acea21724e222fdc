package testnet

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// writeHosts brings the pod's /etc/hosts up to date. It stands for the cluster's name server: every service and every pod.
// The file is bound into running programs' mounts, so it is written in place.
func (p *Pod) writeHosts() error {
	w := p.lab.world
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1 localhost\n::1 localhost\n")
	for _, k := range slices.Sorted(maps.Keys(w.services)) {
		s := w.services[k]
		names := serviceNames(s.Name, s.Namespace, p.Namespace)
		for _, a := range w.serviceAddrs(s, 0) {
			fmt.Fprintf(&b, "%s %s\n", a, names)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(w.pods)) {
		w.podNames(&b, w.pods[k], p)
	}
	path := filepath.Join(p.dir, "hosts")
	if old, err := os.ReadFile(path); err == nil && string(old) == b.String() {
		return nil
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

func serviceNames(name, namespace, from string) string {
	full := fmt.Sprintf("%s.%s %s.%s.svc %s.%s.svc.cluster.local", name, namespace, name, namespace, name, namespace)
	if namespace == from {
		return full + " " + name
	}
	return full
}

// serviceAddrs are the addresses that the service's name has: of the service, of its pods when it is headless, or of what
// an external name leads to, as far as that is a service of the lab.
func (w *world) serviceAddrs(s *corev1.Service, depth int) []netip.Addr {
	var addrs []netip.Addr
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		for _, other := range w.services {
			if depth < 4 && strings.TrimSuffix(s.Spec.ExternalName, ".cluster.local") == other.Name+"."+other.Namespace+".svc" {
				return w.serviceAddrs(other, depth+1)
			}
		}
		if a, err := netip.ParseAddr(s.Spec.ExternalName); err == nil {
			addrs = append(addrs, a)
		}
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		for _, family := range []string{"-v4", "-v6"} {
			slice := w.slices[key(s.Namespace, s.Name+family)]
			if slice == nil {
				continue
			}
			for _, e := range slice.Endpoints {
				if *e.Conditions.Ready {
					addrs = append(addrs, netip.MustParseAddr(e.Addresses[0]))
				}
			}
		}
	default:
		for _, ip := range s.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// podNames writes the lines of a pod: its own name to itself, and the name under its headless service to all.
func (w *world) podNames(b *strings.Builder, o *corev1.Pod, reader *Pod) {
	for _, ip := range o.Status.PodIPs {
		if string(o.UID) == reader.UID {
			fmt.Fprintf(b, "%s %s\n", ip.IP, reader.hostname)
		}
		if o.Spec.Hostname != "" && o.Spec.Subdomain != "" {
			fmt.Fprintf(b, "%s %s\n", ip.IP, serviceNames(o.Spec.Hostname+"."+o.Spec.Subdomain, o.Namespace, reader.Namespace))
		}
	}
}
