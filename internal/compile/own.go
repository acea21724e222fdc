package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// own is what is known of our own kinds. Services are named namespace/name.
type own struct {
	traffic map[Key]*trafficPolicy // in force
	authz   map[Key]*authzPolicy   // in force
	refused map[Key]*refusedPolicy // newer versions that are not
	about   map[Key]map[Key]bool   // policies in force, by the Service or route that they are attached to

	rows      map[string]*mesh.Authorization // by namespace/name
	selecting map[string]map[Key]bool        // AuthorizationPolicies with a selector, by namespace
	behind    map[string]map[Key]bool        // AuthorizationPolicies for pods behind a Service, by service
	at        map[string]refs                // of the services in behind: what is about which of their endpoints
	services  map[netip.Addr]map[string]bool // those in at, by the addresses of their endpoints
	pods      map[Key]int                    // how many pods' rows name an AuthorizationPolicy

	statuses statuses[PolicyStatus]
	stale    ownStale
}

// refs are policies by the address that they are for.
type refs map[netip.Addr][]mesh.PolicyRef

// ownStale is what the batch at hand has made so.
type ownStale struct {
	authz, statuses map[Key]bool
	services, pods  map[string]bool // by name, by UID
}

func newOwnStale() ownStale {
	return ownStale{authz: map[Key]bool{}, statuses: map[Key]bool{}, services: map[string]bool{}, pods: map[string]bool{}}
}

func newOwn(start uint64, limit int) own {
	return own{
		traffic: map[Key]*trafficPolicy{}, authz: map[Key]*authzPolicy{}, refused: map[Key]*refusedPolicy{}, about: map[Key]map[Key]bool{},
		rows: map[string]*mesh.Authorization{}, selecting: map[string]map[Key]bool{}, behind: map[string]map[Key]bool{},
		at: map[string]refs{}, services: map[netip.Addr]map[string]bool{}, pods: map[Key]int{},
		statuses: newStatuses[PolicyStatus](start, limit), stale: newOwnStale(),
	}
}

// ownKinds are the kinds of fairlead.io.
var ownKinds = map[Kind]bool{TrafficPolicy: true, AuthorizationPolicy: true}

// policyHead is what a policy says before its parts.
type policyHead struct {
	key        Key
	uid        string
	generation int64
	created    time.Time
}

func readHead(k Key, o metav1.Object) policyHead {
	return policyHead{k, string(o.GetUID()), o.GetGeneration(), o.GetCreationTimestamp().Time}
}

// before is the order of policies for one target: the older first, then by namespace and name.
func (h policyHead) before(o policyHead) int {
	if c := h.created.Compare(o.created); c != 0 {
		return c
	}
	return strings.Compare(nameOf(h.key).String(), nameOf(o.key).String())
}

// refusedPolicy is a version of a policy that is not in force.
type refusedPolicy struct {
	policyHead
	err error
}

// errNotPermitted marks a policy that says what its namespace may not say.
var errNotPermitted = errors.New("not permitted")

// target is a Service, a route, or a rule of a route by its name.
type target struct {
	object Key
	rule   string
}

func (t target) String() string {
	if t.rule == "" {
		return t.object.String()
	}
	return fmt.Sprintf("rule %s of %s", t.rule, t.object)
}

// missing tells what of a target is not there.
func (w *World) missing(t target) error {
	if t.object.Kind == Service {
		if w.services[nameOf(t.object).String()] == nil {
			return fmt.Errorf("%s does not exist", t.object)
		}
		return nil
	}
	r := w.routes.of[t.object]
	if r == nil {
		return fmt.Errorf("%s does not exist", t.object)
	}
	if t.rule != "" && !slices.ContainsFunc(r.rules, func(x rule) bool { return x.Title == t.rule }) {
		return fmt.Errorf("%s has no rule named %q", t.object, t.rule)
	}
	return nil
}

// targetChanged looks again at what is attached to an object that was set or removed.
func (w *World) targetChanged(k Key) {
	for p := range w.own.about[k] {
		w.own.stale.statuses[p] = true
		if p.Kind == AuthorizationPolicy {
			w.own.stale.authz[p] = true
		}
	}
	if k.Kind != Service {
		return
	}
	name := nameOf(k).String()
	w.endpointsChanged(name) // its ports may have other names
	for r := range w.routes.parents[name] {
		for p := range w.own.about[r] {
			if p.Kind == AuthorizationPolicy {
				w.own.stale.authz[p] = true
			}
		}
	}
}

// endpointsChanged looks again at what is for the pods behind a Service.
func (w *World) endpointsChanged(name string) {
	if len(w.own.behind[name]) > 0 {
		w.own.stale.services[name] = true
	}
}

// settleOwn makes anew what has become stale: rows of policies, then what is about which pod, then statuses.
func (w *World) settleOwn() {
	if s := &w.own.stale; len(s.authz)+len(s.statuses)+len(s.services)+len(s.pods) == 0 {
		return
	}
	for k := range w.own.stale.authz {
		w.makeAuthorization(k)
	}
	for name := range w.own.stale.services {
		w.attachService(name)
	}
	for uid := range w.own.stale.pods {
		if m := w.members[uid]; m != nil {
			w.settle(m)
		}
	}
	for k := range w.own.stale.statuses {
		w.makePolicyStatus(k)
	}
	w.own.statuses.end()
	w.own.stale = newOwnStale()
}

// refuse keeps a version of a policy out of force.
func (w *World) refuse(h policyHead, err error) error {
	w.own.refused[h.key] = &refusedPolicy{h, err}
	w.own.stale.statuses[h.key] = true
	return err
}

func nameOf(k Key) mesh.Name { return mesh.Name{Namespace: k.Namespace, Name: k.Name} }

// prefersZone tells whether a Service asks for endpoints near the caller (spec.trafficDistribution).
func prefersZone(o Object) bool {
	s, ok := o.Value.(*corev1.Service)
	if !ok || s.Spec.TrafficDistribution == nil {
		return false
	}
	switch *s.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return true
	}
	return false
}
