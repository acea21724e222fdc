package redirect

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// pod is an enrolled pod, or one whose enrolment stopped on the way.
type pod struct {
	Pod       // NetNS is our own duplicate
	cookie    uint64
	families  families
	listeners []Listener
	takenOver bool // it was captured by an earlier process, whose listeners may still serve
	complete  bool // every step of the enrolment was done once
	current   bool // and done for what is desired now
}

func (p *pod) close() error {
	return errors.Join(p.closeListeners(), p.NetNS.Close())
}

// same tells whether nothing about the pod changed.
func (p *pod) same(d Pod) bool {
	return p.current && p.UID == d.UID && p.Guard == d.Guard && slices.Equal(p.Addrs, d.Addrs) && slices.Equal(p.ProbePorts, d.ProbePorts)
}

// Set makes exactly the desired pods captured. A pod that fails does not keep the others from it: all errors come joined,
// each with the pod's UID, and the next Set tries again. Pods that leave go first, so that what they release is free.
func (r *Redirect) Set(desired []Pod) (Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var change Change
	want, err := byCookie(desired)
	if err != nil {
		return change, err
	}
	errs := []error{r.leaveAllBut(want, &change)}
	var begun []*pod
	for _, d := range desired {
		p, err := r.begin(d)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("pod %s: enrol: %w", d.UID, err))
		case p != nil:
			begun = append(begun, p)
		}
	}
	for _, p := range begun {
		if err := r.conclude(p, &change); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: enrol: %w", p.UID, err))
		}
	}
	left, err := r.sweep()
	change.Left = append(change.Left, left...)
	return change, errors.Join(append(errs, err)...)
}

func byCookie(desired []Pod) (map[uint64]string, error) {
	want, uids := map[uint64]string{}, map[string]bool{}
	for _, d := range desired {
		if d.NetNS == nil {
			return nil, fmt.Errorf("pod %s: no network namespace", d.UID)
		}
		if other, ok := want[d.NetNS.Cookie()]; ok {
			return nil, fmt.Errorf("pods %s and %s: one network namespace", other, d.UID)
		}
		if uids[d.UID] {
			return nil, fmt.Errorf("pod %s: twice", d.UID)
		}
		want[d.NetNS.Cookie()], uids[d.UID] = d.UID, true
	}
	return want, nil
}

// begin brings one desired pod to where it should be, but for the slots of one that is taken over. It returns nil if nothing
// is to be done.
func (r *Redirect) begin(d Pod) (*pod, error) {
	cookie := d.NetNS.Cookie()
	p := r.pods[cookie]
	if p != nil && p.same(d) {
		return nil, nil
	}
	if p == nil {
		ns, err := d.NetNS.dup()
		if err != nil {
			return nil, err
		}
		var state redirectFlPod
		found := r.objects.maps.FlPods.Lookup(cookie, &state) == nil
		p = &pod{Pod: Pod{NetNS: ns}, cookie: cookie, takenOver: found && state.State == redirectFlStateFL_STATE_CAPTURE}
		r.pods[cookie] = p
	}
	p.UID, p.Guard = d.UID, d.Guard
	p.Addrs, p.ProbePorts = unmapped(d.Addrs), slices.Clone(d.ProbePorts)
	p.current = false
	return p, r.enrol(p)
}

// conclude fills the slots of a pod that is taken over. This comes when all pods are that far: from now on new connections wait
// until the proxy has been told of the listeners, which is after Set.
func (r *Redirect) conclude(p *pod, change *Change) error {
	isNew := !p.complete
	if p.takenOver {
		if err := r.run([]step{r.listening(p)}); err != nil {
			return err
		}
		p.takenOver = false
	}
	p.complete, p.current = true, true
	if l := r.leaving[p.cookie]; l != nil {
		delete(r.leaving, p.cookie)
		if err := l.close(); err != nil {
			return err
		}
	}
	if isNew {
		change.Enrolled = append(change.Enrolled, p.UID)
	} else {
		change.Updated = append(change.Updated, p.UID)
	}
	return nil
}

// leaveAllBut takes every pod that is not wanted out of the mesh, those of an earlier process included.
func (r *Redirect) leaveAllBut(want map[uint64]string, change *Change) error {
	have, err := r.cookies()
	if err != nil {
		return err
	}
	for cookie := range r.pods { // one that failed at its first step is in no map
		have[cookie] = true
	}
	maps.DeleteFunc(have, func(c uint64, _ bool) bool { return want[c] != "" || r.leaving[c] != nil })
	unknown := maps.Clone(have)
	maps.DeleteFunc(unknown, func(c uint64, _ bool) bool { return r.pods[c] != nil })
	found, err := findNetNS(r.cfg, unknown)
	if err != nil {
		return err
	}

	var errs []error
	for _, cookie := range slices.Sorted(maps.Keys(have)) {
		l := &leaver{uid: "netns:" + strconv.FormatUint(cookie, 10), ns: found[cookie]}
		p := r.pods[cookie]
		if p != nil {
			l.uid, l.ns, l.families = p.UID, p.NetNS, p.families
		}
		if err := r.leave(cookie, p, l); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: leave: %w", l.uid, err))
			if p == nil {
				errs = append(errs, l.close())
			}
			continue // nothing is forgotten: the next Set goes on
		}
		delete(r.pods, cookie)
		r.leaving[cookie] = l
		change.Leaving = append(change.Leaving, l.uid)
	}
	return errors.Join(errs...)
}

// byUID finds an enrolled pod.
func (r *Redirect) byUID(uid string) (*pod, error) {
	for _, p := range r.pods {
		if p.UID == uid && p.complete {
			return p, nil
		}
	}
	return nil, fmt.Errorf("pod %s: %w", uid, ErrUnknownPod)
}

// dialling finds the namespace that the proxy may dial from: of an enrolled pod, or of one that is leaving, for whoever
// was connected when it left has still to be served.
func (r *Redirect) dialling(uid string) (*NetNS, families, error) {
	p, err := r.byUID(uid)
	if err == nil {
		return p.NetNS, p.families, nil
	}
	for _, l := range r.leaving {
		if l.uid == uid && l.ns != nil {
			return l.ns, l.families, nil
		}
	}
	return nil, families{}, err
}
