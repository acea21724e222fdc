package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How many routes and policies there are for each Service.
const (
	routeCount  = 50
	policyCount = 20
)

// rules are routes and policies for a Service: what is asked for is matched by one in the middle, has a header set, and is let in
// by one of the policies; a TrafficPolicy has timeouts and retries for all of it.
func rules(namespace, service string) string {
	var b strings.Builder
	b.WriteString(routesFor(namespace, service, "HTTPRoute", originH1, routeCount*2/5, "/api/items", "/size"))
	b.WriteString(routesFor(namespace, service, "HTTPRoute", originH2, routeCount*2/5, "/api/items", "/size"))
	b.WriteString(routesFor(namespace, service, "GRPCRoute", originGRPC, routeCount/5, "bench.Echo"))
	for i := range policyCount {
		fmt.Fprintf(&b, "---\napiVersion: fairlead.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: %s-%d, namespace: %s}\n", service, i, namespace)
		fmt.Fprintf(&b, "spec:\n  target: {kind: Pods, selector: {matchLabels: {app: %s}}}\n", service)
		switch {
		case i == policyCount/2:
			b.WriteString("  action: ALLOW\n  rules: [{from: [{serviceAccounts: [{name: client}]}]}]\n")
		case i%2 == 0:
			fmt.Fprintf(&b, "  action: ALLOW\n  rules: [{from: [{serviceAccounts: [{name: other-%d}]}], to: [{paths: [{type: PathPrefix, value: /other/%[1]d}]}]}]\n", i)
		default:
			fmt.Fprintf(&b, "  action: DENY\n  rules: [{from: [{namespaces: [none-%d]}], to: [{methods: [DELETE]}]}]\n", i)
		}
	}
	fmt.Fprintf(&b, "---\napiVersion: fairlead.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: %s, namespace: %s}\n", service, namespace)
	fmt.Fprintf(&b, "spec:\n  targetRefs: [{kind: Service, name: %s}]\n  timeouts: {request: 60s}\n  retries: {http: [503], limit: 1}\n", service)
	return b.String()
}

// routesFor are routes of a kind for one port, with one for each of what is asked for in the midst of others.
func routesFor(namespace, service, kind string, port, count int, asked ...string) string {
	var b strings.Builder
	for i := range count {
		switch {
		case i >= count/2 && i < count/2+len(asked):
			b.WriteString(oneRoute(namespace, service, kind, port, i, asked[i-count/2], ""))
		case kind == "GRPCRoute":
			b.WriteString(oneRoute(namespace, service, kind, port, i, fmt.Sprintf("others.Service%d", i), ""))
		case i%2 == 0:
			b.WriteString(oneRoute(namespace, service, kind, port, i, fmt.Sprintf("/others/%d", i), ""))
		default:
			b.WriteString(oneRoute(namespace, service, kind, port, i, "/api", fmt.Sprintf(", headers: [{name: x-tenant, value: t%d}]", i)))
		}
	}
	return b.String()
}

// oneRoute is a route with one rule, which sets a header.
func oneRoute(namespace, service, kind string, port, i int, path, more string) string {
	match := fmt.Sprintf("{path: {type: PathPrefix, value: %s}%s}", path, more)
	if kind == "GRPCRoute" {
		match = fmt.Sprintf("{method: {service: %s}%s}", path, more)
	}
	return fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s-%d-%d, namespace: %s}
spec:
  parentRefs: [{group: "", kind: Service, name: %[2]s, port: %[3]d}]
  rules:
  - matches: [%[6]s]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-rule, value: here}]}}]
    backendRefs: [{name: %[2]s, port: %[3]d}]
`, kind, service, port, i, namespace, match)
}

// waitRules waits until what is measured is counted by rules and by policies.
func (s *stage) waitRules(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := s.ruled(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until rules and policies are in force: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ruled makes a few requests of each kind between two nodes, and wants each counted by a rule at the caller's node and by a policy at the other.
func (s *stage) ruled(ctx context.Context) error {
	for _, k := range kinds(1) {
		if k.long || k.way != pair {
			continue
		}
		before, err := s.decisions(ctx)
		if err != nil {
			return err
		}
		c := s.contenders(k)[0]
		few := offer{name: "few", clients: 1, streams: 1, requests: 10}
		if _, err := s.load(ctx, c.client, k, few, c.target); err != nil {
			return err
		}
		after, err := s.decisions(ctx)
		if err != nil {
			return err
		}
		if routed, allowed := after[0]-before[0], after[1]-before[1]; routed < 10 || allowed < 10 {
			return fmt.Errorf("%s: of 10 requests %.0f were sent by a rule, %.0f let in by a policy", k.name, routed, allowed)
		}
	}
	return nil
}

// decisions are how many requests the caller's node has sent by a rule, and the other has let in by a policy.
func (s *stage) decisions(ctx context.Context) (out [2]float64, err error) {
	for i, of := range []struct{ name, label string }{{"fairlead_route_requests_total", ""}, {"fairlead_authorization_total", `verdict="allowed"`}} {
		text, err := s.mesh.Nodes[i].Admin(ctx, "/metrics")
		if err != nil {
			return out, err
		}
		if out[i], err = sumSeries(string(text), of.name, of.label); err != nil {
			return out, err
		}
	}
	return out, nil
}
