package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) routesCommand() *cobra.Command {
	window, rules := time.Duration(0), false
	cmd := &cobra.Command{
		Use:     "routes [SERVICE]",
		GroupID: "see",
		Short:   "requests by path or gRPC method, or the rules in force: which route fails?",
		Long: `Shows what each path of a service, or each method of a gRPC service, has answered, the failing ones first, as the callers'
nodes have seen it. SERVER_ID is whom the server of the last request has proved to be.

A node keeps 512 paths at most, without what follows a question mark. Requests are counted since the proxies' start, or within --time-window.

With --rules it shows the rules of HTTPRoute, GRPCRoute, TLSRoute and TCPRoute that are in force instead: their matches, backends with
weights, and what they have done at all nodes since the proxies' start. A node has the rules of services that its pods have used.`,
		Example: `  fairlead routes -n shop
  fairlead routes cart -n shop --rules`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: t.completeNames(aService),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			switch {
			case rules && window > 0:
				return errors.New("--rules and --time-window exclude each other")
			case rules:
				return t.rules(cmd.Context(), name)
			}
			return t.routes(cmd.Context(), name, window)
		},
	}
	t.formats(cmd, "table", "wide", "json")
	cmd.Flags().DurationVarP(&window, "time-window", "t", window, "time in which requests are counted; 0 is since the proxies' start")
	cmd.Flags().BoolVar(&rules, "rules", false, "show the rules in force, and what each has done")
	return cmd
}

// routeKey is one path of a service.
type routeKey struct{ service, path, protocol string }

// routeJSON is a route for other programs.
type routeJSON struct {
	Service  string   `json:"service"` // namespace/name; empty for an address that is no service's
	Path     string   `json:"path"`
	Protocol string   `json:"protocol"`
	Requests uint64   `json:"requests"`
	Failures uint64   `json:"failures"`
	Success  *float64 `json:"success"`
	RPS      *float64 `json:"rps"`
	Latency  *float64 `json:"meanLatencySeconds"`
	ServerID string   `json:"serverId,omitempty"`
}

func (t *tool) routes(ctx context.Context, name string, window time.Duration) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return err
	}
	ask := func() []fleet.Told[[]debug.Route] {
		return fleet.Proxies[[]debug.Route](ctx, f, nodes, debug.RoutesPath, nil)
	}
	var before map[routeKey]debug.Route
	if window > 0 {
		before = routesOf(ask())
		if err := f.Clock.Wait(ctx, window); err != nil {
			return err
		}
	}
	told := ask()
	if err := nobody(told); err != nil {
		return err
	}
	for _, m := range missed(told) {
		fmt.Fprintln(t.err, "not counted:", m)
	}
	namespace := t.namespace(c)
	var all []debug.Route
	for key, r := range routesOf(told) {
		in, of, _ := strings.Cut(key.service, "/")
		if namespace != "" && in != namespace || name != "" && of != name {
			continue
		}
		if then, ok := before[key]; ok && then.Requests <= r.Requests {
			r.Requests, r.Failures, r.Seconds = r.Requests-then.Requests, r.Failures-then.Failures, r.Seconds-then.Seconds
		}
		if r.Requests > 0 {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b debug.Route) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(a.Service, b.Service), cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Path, b.Path))
	})
	return t.printRoutes(all, window)
}

// routesOf adds up what the nodes have seen.
func routesOf(told []fleet.Told[[]debug.Route]) map[routeKey]debug.Route {
	all := map[routeKey]debug.Route{}
	for _, t := range told {
		for _, r := range t.What {
			key := routeKey{r.Service, r.Path, r.Protocol}
			if sum, ok := all[key]; ok {
				r.Requests, r.Failures, r.Seconds = r.Requests+sum.Requests, r.Failures+sum.Failures, r.Seconds+sum.Seconds
				r.Identity = cmp.Or(r.Identity, sum.Identity)
			}
			all[key] = r
		}
	}
	return all
}

func (t *tool) printRoutes(all []debug.Route, window time.Duration) error {
	mean := func(r debug.Route) float64 {
		if r.Requests == 0 {
			return math.NaN()
		}
		return r.Seconds / float64(r.Requests)
	}
	if t.format == "json" {
		rows := []routeJSON{}
		for _, r := range all {
			service := strings.Trim(r.Service, "/")
			rows = append(rows, routeJSON{service, r.Path, r.Protocol, r.Requests, r.Failures, number(success(float64(r.Requests), float64(r.Failures))),
				number(perSecond(float64(r.Requests), window)), number(mean(r)), r.Identity})
		}
		return printJSON(t.out, rows)
	}
	table := newTable("SERVICE", "ROUTE", "PROTOCOL", ">REQUESTS", ">FAILURES", ">SUCCESS", ">RPS", ">LATENCY_MEAN", "SERVER_ID")
	for _, r := range all {
		_, name, _ := strings.Cut(r.Service, "/")
		if t.all {
			name = r.Service
		}
		id := shortID(r.Identity)
		if t.format == "wide" {
			id = r.Identity
		}
		table.row(dash(strings.Trim(name, "/")), r.Path, r.Protocol, fmt.Sprint(r.Requests), fmt.Sprint(r.Failures), percent(success(float64(r.Requests), float64(r.Failures))),
			rate(perSecond(float64(r.Requests), window)), seconds(mean(r)), dash(id))
	}
	table.print(t.out)
	return nil
}
