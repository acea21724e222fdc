package main

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
	"fairlead.io/fairlead/internal/traffic"
)

// podRows come from what proxies tell of single pods, which metrics do not.
func (q *statQuery) podRows(ctx context.Context, nodes, pods []corev1.Pod) ([]statRow, []string, error) {
	ask := func() []fleet.Told[[]debug.Pod] {
		return fleet.Proxies[[]debug.Pod](ctx, q.fleet, nodes, debug.PodsPath, nil)
	}
	var before map[string]*traffic.Counts
	started := q.fleet.Clock.Time()
	if q.window > 0 {
		before = podCounts(ask())
		if err := q.fleet.Clock.Wait(ctx, q.window); err != nil {
			return nil, nil, err
		}
	}
	told := ask()
	elapsed := q.fleet.Clock.Time().Sub(started)
	if q.window == 0 {
		elapsed = 0
	}
	if err := nobody(told); err != nil {
		return nil, nil, err
	}
	var rows []statRow
	in, after := captured(told), podCounts(told)
	for i := range pods {
		p := &pods[i]
		if q.resource.name != "" && q.resource.name != p.Name {
			continue
		}
		counts := after[string(p.UID)]
		if counts == nil {
			counts = &traffic.Counts{}
		} else if then := before[string(p.UID)]; then != nil {
			counts = counts.Since(then)
		}
		counts.Elapsed = elapsed
		r := statRow{name: mesh.Name{Namespace: p.Namespace, Name: p.Name}, counts: counts}
		r.count([]*corev1.Pod{p}, in)
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b statRow) int { return compareNames(a.name, b.name) })
	return rows, missed(told), nil
}

// podCounts is what pods have served, by UID.
func podCounts(told []fleet.Told[[]debug.Pod]) map[string]*traffic.Counts {
	all := map[string]*traffic.Counts{}
	for _, t := range told {
		for _, p := range t.What {
			if all[p.UID] == nil {
				all[p.UID] = &traffic.Counts{}
			}
			all[p.UID].Add(traffic.Of(p.Inbound))
		}
	}
	return all
}
