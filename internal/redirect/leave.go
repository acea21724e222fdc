package redirect

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// leaver is a pod that is no longer captured and whose proxied connections drain.
type leaver struct {
	uid      string
	ns       *NetNS // ours; nil if it was not found, which is: gone
	families families
	deadline time.Time
}

func (l *leaver) close() error {
	if l.ns == nil {
		return nil
	}
	return l.ns.Close()
}

// leave ends the capture: new connections pass at once, live ones go on. p is nil for a pod of an earlier process.
func (r *Redirect) leave(cookie uint64, p *pod, l *leaver) error {
	l.deadline = time.Now().Add(r.cfg.Drain)
	err := r.run([]step{
		{"let connections pass", func() error {
			return r.objects.maps.FlPods.Put(cookie, redirectFlPod{State: redirectFlStateFL_STATE_LEAVING})
		}},
		{"detach", func() error { return dropPodLinks(r.podDir(cookie)) }},
		{"empty slots", func() error { return r.emptySlots(cookie) }},
		{"close listeners", func() error {
			if p == nil {
				return nil
			}
			return p.closeListeners()
		}},
		{"forget addresses", func() error { return r.syncAddrs(cookie, &Pod{}) }},
	})
	return err
}

// Sweep ends the drain of every leaving pod that has no proxied connection left, whose time is over, or that has gone,
// and returns their UIDs; and it follows the kubelet's cgroup and the node's addresses. Set does it too.
func (r *Redirect) Sweep() (left []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sweep()
}

func (r *Redirect) sweep() (left []string, err error) {
	errs := []error{r.followKubelet(), r.followNode()}
	for _, cookie := range slices.Sorted(maps.Keys(r.leaving)) {
		l := r.leaving[cookie]
		done, err := r.drained(cookie, l)
		if err == nil && done {
			err = r.finish(cookie, l)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pod %s: end of drain: %w", l.uid, err))
			continue
		}
		if done {
			delete(r.leaving, cookie)
			left = append(left, l.uid)
			errs = append(errs, l.close())
		}
	}
	return left, errors.Join(errs...)
}

func (r *Redirect) drained(cookie uint64, l *leaver) (bool, error) {
	if l.ns == nil || !time.Now().Before(l.deadline) {
		return true, nil
	}
	gone, err := r.gone(cookie, l.ns)
	if gone || err != nil {
		return gone, err
	}
	var n int
	err = l.ns.Do(func() (err error) {
		n, err = proxied()
		return err
	})
	return n == 0, err
}

// gone tells whether a pod's namespace lives only because we hold it. One that was handed over by descriptor may have no
// name anywhere: nothing is known of it.
func (r *Redirect) gone(cookie uint64, ns *NetNS) (bool, error) {
	if ns.path == "" || ns.isAt(ns.path) {
		return false, nil
	}
	found, err := findNetNS(r.cfg, map[uint64]bool{cookie: true})
	if err != nil || found[cookie] == nil {
		return err == nil, err
	}
	ns.path = found[cookie].path // its process has gone, another is there
	return false, found[cookie].Close()
}

// finish makes the namespace what it was, then forgets the pod: fl_undos last, since it is what the pod is found by.
func (r *Redirect) finish(cookie uint64, l *leaver) error {
	return r.run([]step{
		{"restore", func() error {
			var undo redirectFlUndo
			err := r.objects.maps.FlUndos.Lookup(cookie, &undo)
			if isNotFound(err) || l.ns == nil {
				return nil
			}
			if err != nil {
				return err
			}
			return l.ns.Do(func() error { return restore(r.cfg, &undo) })
		}},
		{"forget state", func() error { return ignoreNotFound(r.objects.maps.FlPods.Delete(cookie)) }},
		{"forget pod", func() error { return ignoreNotFound(r.objects.maps.FlUndos.Delete(cookie)) }},
	})
}

func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// followKubelet attaches anew when the kubelet's cgroup was made anew, as a restart of its unit does.
func (r *Redirect) followKubelet() error {
	if r.cfg.Probe.Cgroup == "" {
		return nil
	}
	id, err := cgroupID(r.cfg.Probe.Cgroup)
	if err != nil || id == r.objects.kubelet {
		return nil // between two kubelets nobody probes
	}
	return r.objects.attachHost(r.cfg, r.dir)
}
