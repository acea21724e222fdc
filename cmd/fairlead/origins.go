package main

import (
	"context"
	"fmt"
	"strings"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/kube/remote"
)

// origins tells which policy each part of what is in force has come from: the first that has it, of those from the most
// specific to the least. What you may not see is not told.
func (w *walk) origins(ctx context.Context) {
	in := w.Source.Treatment
	if in == nil || len(in.From) == 0 {
		return
	}
	taken := map[string]bool{}
	for _, from := range in.From {
		p, err := remote.Get[v1alpha1.TrafficPolicy](ctx, w.f.Client, from.Namespace, from.Name)
		if err != nil {
			w.Source.add(false, "merged", "%s/%s cannot be read, so it is not told which parts are from it: %v", from.Namespace, from.Name, err)
			return
		}
		var gives, hidden []string
		for _, part := range partsOf(&p.Spec) {
			if taken[part] {
				hidden = append(hidden, part)
			} else {
				gives = append(gives, part)
			}
			taken[part] = true
		}
		text := fmt.Sprintf("%s/%s gives %s", from.Namespace, from.Name, dash(strings.Join(gives, ", ")))
		if len(hidden) > 0 {
			text += "; a more specific policy has its " + strings.Join(hidden, ", ")
		}
		w.Source.add(true, "merged", "%s", text)
	}
}

// partsOf are the parts that a policy has, as users write them.
func partsOf(s *v1alpha1.TrafficPolicySpec) (parts []string) {
	for _, p := range []struct {
		name string
		has  bool
	}{
		{"retries", s.Retries != nil}, {"timeouts", s.Timeouts != nil}, {"circuitBreaker", s.CircuitBreaker != nil},
		{"loadBalancing", s.LoadBalancing != nil}, {"rateLimit", s.RateLimit != nil}, {"faults", len(s.Faults) > 0}, {"protocol", s.Protocol != nil},
	} {
		if p.has {
			parts = append(parts, p.name)
		}
	}
	return parts
}
