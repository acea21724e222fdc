package compile

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// member is a pod on its way through the mesh:
//
//	outside --enrolled--> told to the keeper --captured--> in the mesh --left--> leaving --released--> outside
//
// It is told to others as in the mesh only in the third state.
type member struct {
	key  Key
	f    *facts
	gone bool // the object has been removed, or the pod has finished

	since uint64 // version at which its enrolment was told to the keeper; 0: it is not to be captured
	left  uint64 // version that announces that it left; 0: it has not
	told  mesh.Enrolment
}

// report is what a node has captured, and the version of the enrolments that it knew.
type report struct {
	seen uint64
	pods map[string][]netip.Addr
}

func (w *World) setPod(k Key, p *corev1.Pod) (warnings []error, err error) {
	f, err := w.podFacts(p)
	if err != nil {
		return nil, err
	}
	if f == nil {
		w.dropPod(k)
		return nil, nil
	}
	things := []any{podUID(f.uid)}
	if !f.hostNet {
		for _, a := range f.addrs {
			things = append(things, a)
		}
	}
	for _, t := range things {
		if err := w.claims.taken(k, t); err != nil {
			return nil, err
		}
	}
	m := w.members[f.uid]
	if m != nil && m.f.node != f.node {
		return nil, fmt.Errorf("uid %s is on node %s already", f.uid, m.f.node)
	}
	w.retireOthers(k, f.uid)
	if m == nil {
		m = &member{}
		w.members[f.uid] = m
		if w.byNode[f.node] == nil {
			w.byNode[f.node] = map[string]*member{}
		}
		w.byNode[f.node][f.uid] = m
	}
	m.key, m.f, m.gone = k, f, false
	put(w.index.podsOf, k.Namespace, k)
	w.claims.set(k, things)
	w.settle(m)
	return f.warnings, nil
}

// retireOthers ends an earlier pod of the same name.
func (w *World) retireOthers(k Key, uid string) {
	for _, t := range w.claims.of[k] {
		if old, ok := t.(podUID); ok && string(old) != uid {
			w.dropPod(k)
			return
		}
	}
}

func (w *World) dropPod(k Key) {
	drop(w.index.podsOf, k.Namespace, k)
	things := w.claims.of[k]
	w.claims.set(k, nil)
	for _, t := range things {
		if uid, ok := t.(podUID); ok {
			if m := w.members[string(uid)]; m != nil {
				m.gone = true
				w.settle(m)
			}
		}
	}
}

// settle brings a member's state, its row and what its keeper is told in line with the pod and the reports.
func (w *World) settle(m *member) {
	wanted := m.f.enrolled && !m.gone && !w.closed
	addrs, captured := w.capturedOf(m)
	switch {
	case wanted:
		if m.since == 0 {
			m.since = w.next()
		}
		m.left = 0
	case m.since != 0 && !captured: // nobody was told that it is in the mesh
		m.since, m.left = 0, 0
	case m.since != 0 && m.left == 0:
		m.left = w.next()
	}
	if m.left != 0 {
		w.leaving[m.f.uid] = m
	} else {
		delete(w.leaving, m.f.uid)
	}
	w.setRow(m, addrs, captured, wanted)
	w.tellKeeper(m)
	if m.gone && m.since == 0 {
		delete(w.members, m.f.uid)
		delete(w.byNode[m.f.node], m.f.uid)
		if len(w.byNode[m.f.node]) == 0 {
			delete(w.byNode, m.f.node)
		}
	}
}

// capturedOf is what the node says of the pod. A report counts only if the node had seen the enrolment: an older
// one may be of an earlier time in the mesh, which the keeper is about to end.
func (w *World) capturedOf(m *member) ([]netip.Addr, bool) {
	r := w.captured[m.f.node]
	if r == nil || m.since == 0 || r.seen < m.since {
		return nil, false
	}
	addrs, ok := r.pods[m.f.uid]
	return addrs, ok
}

func (w *World) setRow(m *member, captured []netip.Addr, isCaptured, wanted bool) {
	old := w.pods[m.f.uid]
	if m.gone && m.since == 0 {
		delete(w.problems, captureKey(m))
		if old != nil {
			w.countRefs(old, nil)
			delete(w.pods, m.f.uid)
			w.note(Pod, m.f.uid)
		}
		return
	}
	row := &mesh.Pod{
		UID: m.f.uid, Name: m.f.name, Account: m.f.account, Node: m.f.node, Workload: m.f.workload,
		Addrs: m.f.addrs, HostNet: m.f.hostNet, InMesh: wanted && isCaptured,
		Policy: w.policyOf(m), Open: w.open(m),
	}
	switch {
	case m.gone && isCaptured:
		row.Addrs = w.unclaimed(captured)
	case m.gone:
		row.Addrs = w.unclaimed(row.Addrs)
	case isCaptured:
		row.Addrs = w.claimCaptured(m, captured)
	}
	if m.gone || !isCaptured {
		delete(w.problems, captureKey(m))
	}
	row.Policies = w.policiesFor(m, row.Addrs, old)
	if old != nil && reflect.DeepEqual(old, row) {
		return
	}
	w.countRefs(old, row)
	w.pods[m.f.uid] = row
	w.note(Pod, m.f.uid)
}

// unclaimed leaves a pod that is gone the addresses that nobody has taken since, be it a pod of the same name.
func (w *World) unclaimed(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if _, taken := w.claims.owner[a]; !taken && usable(a) {
			out = append(out, a)
		}
	}
	return out
}

// settleClaims looks again at the pods whose addresses depend on what others have: those that are gone and not yet
// released, and those that were captured with an address of somebody else's.
func (w *World) settleClaims() {
	for _, m := range maps.Clone(w.leaving) {
		if m.gone {
			w.settle(m)
		}
	}
	var waiting []string
	for k := range w.problems {
		if k.Kind == capture {
			waiting = append(waiting, k.Name)
		}
	}
	slices.Sort(waiting)
	for _, uid := range waiting {
		if m := w.members[uid]; m != nil {
			w.settle(m)
		}
	}
}

// capture is a kind beside those of objects.
const capture Kind = "Capture"

// captureKey is where problems of a pod's captured addresses stand, apart from those of its object.
func captureKey(m *member) Key {
	return Key{Kind: capture, Namespace: m.f.name.Namespace, Name: m.f.uid}
}

// claimCaptured takes the addresses that a node reports, but for those that are somebody else's.
func (w *World) claimCaptured(m *member, captured []netip.Addr) []netip.Addr {
	var out []netip.Addr
	var bad []error
	things := []any{podUID(m.f.uid)}
	for _, a := range m.f.addrs {
		things = append(things, a)
	}
	for _, a := range captured {
		if !usable(a) {
			bad = append(bad, fmt.Errorf("node %s reports address %s", m.f.node, a))
			continue
		}
		if err := w.claims.taken(m.key, a); err != nil {
			bad = append(bad, fmt.Errorf("node %s reports: %w", m.f.node, err))
			continue
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
		if !slices.Contains(things, any(a)) {
			things = append(things, a)
		}
	}
	w.claims.set(m.key, things)
	delete(w.problems, captureKey(m))
	if len(bad) > 0 {
		w.problems[captureKey(m)] = []Problem{{Object: m.key.String(), Err: errors.Join(bad...)}}
	}
	return out
}

func (w *World) tellKeeper(m *member) {
	e := mesh.Enrolment{
		UID: m.f.uid, Name: m.f.name, Account: m.f.account, Workload: m.f.workload,
		Enrolled: m.since != 0, ProbePorts: m.f.probePorts, Drain: m.f.drain,
	}
	if m.f.hostNet || m.gone && m.since == 0 {
		e = mesh.Enrolment{}
	}
	if reflect.DeepEqual(e, m.told) {
		return
	}
	m.told = e
	w.enrolmentAt[m.f.node], w.dirty = w.next(), true
}

// Enrolments are a node's pods, by UID, and the version at which they last changed.
func (w *World) Enrolments(node string) ([]mesh.Enrolment, uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := []mesh.Enrolment{}
	for _, m := range w.byNode[node] {
		if m.told.UID != "" {
			out = append(out, m.told)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Enrolment) int { return strings.Compare(a.UID, b.UID) })
	return out, w.enrolmentAt[node]
}

// Live tells whether a node has a pod of the account that is in the mesh, or is to be, or is just leaving.
func (w *World) Live(node string, a mesh.Account) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, m := range w.byNode[node] {
		if m.since != 0 && m.f.account == a {
			return true
		}
	}
	return false
}

// SetCaptured says what a node has captured, having seen the enrolments of a version. A report older than the
// last is of a keeper that has just started, and is about to report again: it takes nothing out of the mesh.
func (w *World) SetCaptured(node string, seen uint64, captured map[string][]netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seen > w.version {
		seen = 0 // of another life of the controller, when the clock was ahead
	}
	old := w.captured[node]
	if old != nil && seen < old.seen {
		return
	}
	if old != nil && old.seen == seen && maps.EqualFunc(old.pods, captured, slices.Equal[[]netip.Addr]) {
		return
	}
	if old == nil || old.seen < w.start {
		w.dirty = true // who waits for the node to be heard is waiting for a change
	}
	w.captured[node] = &report{seen: seen, pods: maps.Clone(captured)}
	for _, m := range maps.Clone(w.byNode[node]) {
		if _, has := captured[m.f.uid]; has && old == nil && seen > 0 && m.since == 0 {
			// Captured in an earlier life of the controller, and not to be any more: it leaves in order, like others.
			// That it is outside was told to every proxy from the start of this life on.
			m.since, m.left = min(seen, w.start), w.start
		}
		w.settle(m)
	}
	w.settleClaims()
	w.end()
}

// Unheard are the nodes with pods to enrol that have not reported since the start.
func (w *World) Unheard() []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var out []string
	for node, members := range w.byNode {
		if r := w.captured[node]; r != nil && r.seen >= w.start {
			continue
		}
		for _, m := range members {
			if m.since != 0 {
				out = append(out, node)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

// Leaving are the captured pods that have left, with the version that announces it.
func (w *World) Leaving() map[string]uint64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make(map[string]uint64, len(w.leaving))
	for uid, m := range w.leaving {
		out[uid] = m.left
	}
	return out
}

// Release has the keeper of a leaving pod let it go. For another pod it does nothing.
func (w *World) Release(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.leaving[uid]
	if m == nil {
		return
	}
	m.since, m.left = 0, 0
	w.settle(m)
	w.end()
}
