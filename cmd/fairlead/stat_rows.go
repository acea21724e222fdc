package main

import (
	"cmp"
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
	"fairlead.io/fairlead/internal/traffic"
)

// statRow is a line of the table.
type statRow struct {
	name         mesh.Name
	meshed, pods int
	counts       *traffic.Counts
}

// run makes the rows, and says what is not in them.
func (q *statQuery) run(ctx context.Context) ([]statRow, []string, error) {
	nodes, err := q.fleet.NodePods(ctx)
	if err != nil {
		return nil, nil, err
	}
	pods, err := remote.List[corev1.Pod](ctx, q.fleet.Client, remote.Query{Namespace: q.scope()})
	if err != nil {
		return nil, nil, err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	if q.resource.kind == aPod {
		return q.podRows(ctx, nodes, pods)
	}
	window, err := traffic.Watch(ctx, q.fleet, nodes, q.window)
	if err != nil {
		return nil, nil, err
	}
	told := fleet.Proxies[[]debug.Pod](ctx, q.fleet, nodes, debug.PodsPath, nil)
	captured := captured(told)
	var rows []statRow
	switch q.resource.kind {
	case aNamespace:
		rows, err = q.namespaceRows(ctx, window, pods)
	case aService:
		rows, err = q.serviceRows(ctx, pods)
	default:
		rows = q.workloadRows(window, pods)
	}
	if err != nil {
		return nil, nil, err
	}
	for i := range rows {
		r := &rows[i]
		r.counts = window.Sum(q.wanted(q.end(r.name)))
		r.count(q.members(r.name, pods), captured)
	}
	slices.SortFunc(rows, func(a, b statRow) int { return compareNames(a.name, b.name) })
	if len(window.Missed) == 0 {
		window.Missed = missed(told)
	}
	return rows, window.Missed, nil
}

func compareNames(a, b mesh.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// scope is the namespace whose pods are wanted.
func (q *statQuery) scope() string {
	if q.resource.kind == aNamespace {
		return q.resource.name
	}
	return q.namespace
}

// end is what a row stands for.
func (q *statQuery) end(name mesh.Name) traffic.End {
	switch q.resource.kind {
	case aNamespace:
		return traffic.End{Namespace: name.Name}
	case aService:
		return traffic.End{Namespace: name.Namespace, Service: name.Name}
	}
	return traffic.End{Namespace: name.Namespace, Workload: name.Name}
}

// captured are the pods that proxies have told of, by UID. A pod of which two proxies of one node tell, the old and the
// new one of an update, is in the mesh if one says so.
func captured(told []fleet.Told[[]debug.Pod]) map[string]debug.Pod {
	all := map[string]debug.Pod{}
	for _, t := range told {
		for _, p := range t.What {
			if old, ok := all[p.UID]; !ok || !old.InMesh {
				all[p.UID] = p
			}
		}
	}
	return all
}

func (r *statRow) count(pods []*corev1.Pod, captured map[string]debug.Pod) {
	for _, p := range pods {
		r.pods++
		if captured[string(p.UID)].InMesh {
			r.meshed++
		}
	}
}

// members are the pods of a row.
func (q *statQuery) members(row mesh.Name, pods []corev1.Pod) []*corev1.Pod {
	var all []*corev1.Pod
	for i := range pods {
		p := &pods[i]
		switch q.resource.kind {
		case aNamespace:
			if p.Namespace != row.Name {
				continue
			}
		case aService:
			if selector := q.selectors[row]; selector == nil || p.Namespace != row.Namespace || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
		default:
			if workloadOf(p) != row {
				continue
			}
		}
		all = append(all, p)
	}
	return all
}

// namespaceRows are the namespaces that are in the mesh, have a pod in it, or traffic.
func (q *statQuery) namespaceRows(ctx context.Context, w *traffic.Window, pods []corev1.Pod) ([]statRow, error) {
	all, err := remote.List[corev1.Namespace](ctx, q.fleet.Client, remote.Query{})
	if err != nil {
		return nil, err
	}
	busy := map[string]bool{}
	for p := range w.Pairs {
		busy[p.Dst.Namespace], busy[p.Src.Namespace] = true, true
	}
	for _, p := range pods {
		if p.Labels[compile.EnrolLabel] == compile.Enabled {
			busy[p.Namespace] = true
		}
	}
	var rows []statRow
	for _, ns := range all {
		if q.resource.name == ns.Name || q.resource.name == "" && (busy[ns.Name] || ns.Labels[compile.EnrolLabel] == compile.Enabled) {
			rows = append(rows, statRow{name: mesh.Name{Name: ns.Name}})
		}
	}
	return rows, nil
}

func (q *statQuery) serviceRows(ctx context.Context, _ []corev1.Pod) ([]statRow, error) {
	all, err := remote.List[corev1.Service](ctx, q.fleet.Client, remote.Query{Namespace: q.namespace})
	if err != nil {
		return nil, err
	}
	q.selectors = map[mesh.Name]labels.Selector{}
	var rows []statRow
	for _, s := range all {
		name := mesh.Name{Namespace: s.Namespace, Name: s.Name}
		if q.resource.name != "" && q.resource.name != s.Name {
			continue
		}
		if len(s.Spec.Selector) > 0 {
			q.selectors[name] = labels.SelectorFromSet(s.Spec.Selector)
		}
		rows = append(rows, statRow{name: name})
	}
	return rows, nil
}

// workloadRows are the workloads that have a pod, and of those that are asked for by name or without a kind also what
// had traffic only.
func (q *statQuery) workloadRows(w *traffic.Window, pods []corev1.Pod) []statRow {
	names := map[mesh.Name]bool{}
	for i := range pods {
		if k := ownerKind(&pods[i]); q.resource.kind == aWorkload || q.resource.kind == k {
			names[workloadOf(&pods[i])] = true
		}
	}
	if q.resource.kind == aWorkload {
		for p := range w.Pairs {
			if q.namespace == "" || p.Dst.Namespace == q.namespace {
				names[p.Dst] = true
			}
		}
		delete(names, mesh.Name{Namespace: "unknown", Name: "unknown"})
	}
	var rows []statRow
	for name := range maps.Keys(names) {
		if q.resource.name == "" || q.resource.name == name.Name {
			rows = append(rows, statRow{name: name})
		}
	}
	return rows
}
