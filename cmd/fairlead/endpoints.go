package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) endpointsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "endpoints SERVICE[.NAMESPACE][:PORT]",
		GroupID: "see",
		Short:   "what each node knows of a service's endpoints",
		Long: `Shows for each node where it would send requests for a service: addresses, pods, whether they are ready, who they must prove
to be, how many requests are in flight, and the latency that the choice is weighted by.

A node asks for a service's endpoints when one of its pods first uses it. Nodes that have not are named.`,
		Example: `  fairlead endpoints -n shop web
  fairlead endpoints web.shop:80 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.completeNames(aService),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.endpoints(cmd.Context(), args[0]) },
	}
	t.formats(cmd, "table", "wide", "json")
	return cmd
}

// target is a service, and perhaps a port of it.
type target struct {
	name, namespace string
	port            int // 0 for any
}

// parseService reads "web", "web.shop", "web.shop.svc.cluster.local" and each with ":80".
func parseService(text, namespace string) (target, error) {
	t := target{name: text, namespace: namespace}
	if host, port, ok := strings.Cut(text, ":"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("%q: the port is no number of a port", text)
		}
		t.name, t.port = host, int(n)
	}
	parts := strings.Split(strings.TrimSuffix(t.name, "."), ".")
	if len(parts) > 2 && parts[2] != "svc" {
		return t, fmt.Errorf("%q is not a service's name: SERVICE, SERVICE or SERVICE.NAMESPACE are", text)
	}
	t.name = parts[0]
	if len(parts) > 1 {
		t.namespace = parts[1]
	}
	if t.name == "" || t.namespace == "" {
		return t, fmt.Errorf("%q is not a service's name", text)
	}
	return t, nil
}

// endpointJSON is an endpoint as a node knows it.
type endpointJSON struct {
	On     string `json:"on"` // the node that knows it
	Port   uint16 `json:"port"`
	Family string `json:"family,omitempty"`
	debug.Endpoint
}

func (t *tool) endpoints(ctx context.Context, arg string) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	s, err := parseService(arg, c.Namespace())
	if err != nil {
		return err
	}
	if _, err := remote.Get[corev1.Service](ctx, c, s.namespace, s.name); err != nil {
		return err
	}
	f := t.fleet(c)
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return err
	}
	told := fleet.Proxies[[]debug.Service](ctx, f, nodes, debug.EndpointsPath, url.Values{"service": {s.namespace + "/" + s.name}})
	if err := nobody(told); err != nil {
		return err
	}
	for _, m := range missed(told) {
		fmt.Fprintln(t.err, "not asked:", m)
	}
	all := []endpointJSON{}
	for _, from := range told {
		for _, p := range from.What {
			if s.port != 0 && s.port != int(p.Number) {
				continue
			}
			if !p.Used {
				fmt.Fprintf(t.err, "node %s: no pod has used port %d yet\n", from.Node(), p.Number)
			}
			for _, e := range p.Endpoints {
				all = append(all, endpointJSON{from.Node(), p.Number, p.Family, e})
			}
		}
	}
	slices.SortFunc(all, func(a, b endpointJSON) int {
		return cmp.Or(cmp.Compare(a.On, b.On), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address))
	})
	if t.format == "json" {
		return printJSON(t.out, all)
	}
	t.printEndpoints(all)
	return nil
}

func (t *tool) printEndpoints(all []endpointJSON) {
	table := newTable("KNOWN_TO", ">PORT", "ADDRESS", "POD", "NODE", "STATE", "SECURED", "IDENTITY", ">IN_FLIGHT", ">LATENCY")
	for _, e := range all {
		state := "not ready"
		switch {
		case e.Ready:
			state = "ready"
		case e.Serving:
			state = "ending"
		}
		secured, id := "plaintext", shortID(e.Identity)
		if e.InMesh {
			secured = "mutual TLS"
		}
		if t.format == "wide" {
			id = e.Identity
		}
		table.row(e.On, fmt.Sprint(e.Port), e.Address, dash(e.Pod), dash(e.Node), state, secured, dash(id), fmt.Sprint(e.InFlight), seconds(e.Latency))
	}
	table.print(t.out)
}
