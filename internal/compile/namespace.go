package compile

import (
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// enrolLabel enrols a namespace, or a pod whatever its namespace says.
const (
	enrolLabel = "fairlead.io/mesh"
	enabled    = "enabled"
	disabled   = "disabled"
)

const zoneLabel = "topology.kubernetes.io/zone"

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// checkName holds names to what Kubernetes allows: they become file names, SPIFFE IDs and label values.
func checkName(k Key) error {
	if len(k.Name) > 253 || !dnsSubdomain.MatchString(k.Name) {
		return fmt.Errorf("name %.300q is not a DNS name", k.Name)
	}
	clusterWide := k.Kind == Namespace || k.Kind == Node
	if clusterWide && k.Namespace != "" {
		return fmt.Errorf("a %s has no namespace", k.Kind)
	}
	if !clusterWide && (len(k.Namespace) > 63 || !dnsLabel.MatchString(k.Namespace)) {
		return fmt.Errorf("namespace %.300q is not a DNS label", k.Namespace)
	}
	return nil
}

func enrolValue(labels map[string]string) (value string, err error) {
	switch v := labels[enrolLabel]; v {
	case "", enabled, disabled:
		return v, nil
	default:
		return "", fmt.Errorf("label %s: %q is neither %q nor %q", enrolLabel, v, enabled, disabled)
	}
}

// setNamespace takes a namespace with a label that says nothing as it was, and a new one as not enrolled: it must be known,
// or its pods could not start.
func (w *World) setNamespace(ns *corev1.Namespace) (warnings []error, err error) {
	old, known := w.namespaces[ns.Name]
	v, err := enrolValue(ns.Labels)
	if err != nil && known {
		return nil, err
	}
	if err != nil {
		warnings = []error{err}
	}
	on := v == enabled && !w.system[ns.Name]
	policy, more := policyValue(ns.Annotations, w.policies[ns.Name], known)
	warnings = append(warnings, more...)
	if known && old == on && w.policies[ns.Name] == policy {
		return warnings, nil
	}
	w.policies[ns.Name] = policy
	if !known || old != on {
		w.namespaces[ns.Name] = on
		w.namespacesAt, w.dirty = w.next(), true
	}
	w.refreshPods(ns.Name)
	return warnings, nil
}

func (w *World) dropNamespace(name string) {
	delete(w.namespaces, name)
	delete(w.policies, name)
	w.namespacesAt, w.dirty = w.next(), true
	w.refreshPods(name)
}

func (w *World) setNode(k Key, n *corev1.Node) error {
	row := &mesh.Node{Name: n.Name, Zone: n.Labels[zoneLabel]}
	var things []any
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		addr, err := parseAddr(a.Address)
		if err != nil {
			return err
		}
		if err := w.claims.taken(k, addr); err != nil {
			return err
		}
		if !slices.Contains(row.Addrs, addr) {
			row.Addrs = append(row.Addrs, addr)
			things = append(things, addr)
		}
	}
	w.claims.set(k, things)
	if old := w.nodes[n.Name]; old != nil && old.Zone == row.Zone && slices.Equal(old.Addrs, row.Addrs) {
		return nil
	}
	w.nodes[n.Name] = row
	w.note(Node, n.Name)
	return nil
}
