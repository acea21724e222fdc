package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/traffic"
)

// statOptions narrow what stat shows.
type statOptions struct {
	window      time.Duration
	from, to    string
	toNamespace string
}

func (t *tool) statCommand() *cobra.Command {
	o := &statOptions{}
	cmd := &cobra.Command{
		Use:     "stat KIND [NAME]",
		GroupID: "see",
		Short:   "success rate, requests per second, latencies and connections",
		Long: `Shows what namespaces, workloads, pods, services or routes have served: success rate, requests per second, latencies,
TCP connections that are open, and how many of the pods are in the mesh.

It reads the counters of every node's proxy, waits, reads them again, and shows the difference. With
--time-window=0 it reads them once, and shows everything since the proxies' start.

KIND is namespace, workload (of any kind), deployment, statefulset, daemonset, job, cronjob, pod, service or route.
A workload's or pod's numbers are the server's: what arrived there from anybody. A service's are the clients', with
the requests that found no endpoint; only callers inside the mesh are in them. A request counts once.`,
		Example: `  fairlead stat ns
  fairlead stat deploy -n shop
  fairlead stat deploy/web -n shop --from deploy/front
  fairlead stat svc -A -t 30s`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: t.complete(statKinds...),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.stat(cmd.Context(), args, o) },
	}
	t.formats(cmd, "table", "wide", "json")
	f := cmd.Flags()
	f.DurationVarP(&o.window, "time-window", "t", 5*time.Second, "time between the two readings")
	f.StringVar(&o.from, "from", "", "count only what comes from there: deploy/NAME, ns/NAME")
	f.StringVar(&o.to, "to", "", "show what these send there: deploy/NAME, svc/NAME, ns/NAME")
	f.StringVar(&o.toNamespace, "to-namespace", "", "namespace of --to, where it is another")
	return cmd
}

var statKinds = []kind{aNamespace, aWorkload, aDeploy, aStateful, aDaemonSet, aJob, aCronJob, aPod, aService, aRoute}

func (t *tool) stat(ctx context.Context, args []string, o *statOptions) error {
	if o.window < 0 {
		return fmt.Errorf("--time-window %v: a time cannot be less than nothing", o.window)
	}
	r, err := parseResource(args, statKinds...)
	if err != nil {
		return err
	}
	if r.kind == aRoute {
		if o.from+o.to != "" {
			return errors.New("routes are counted without their callers")
		}
		return t.routes(ctx, r.name, o.window)
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	q := &statQuery{fleet: t.fleet(c), resource: r, namespace: t.namespace(c), window: o.window}
	if err := q.ends(c.Namespace(), o); err != nil {
		return err
	}
	rows, missed, err := q.run(ctx)
	if err != nil {
		return err
	}
	for _, m := range missed {
		fmt.Fprintln(t.err, "not counted:", m)
	}
	if r.name != "" && len(rows) == 0 {
		return fmt.Errorf("there is no %s %q with a pod, or traffic, in %s", r.kind, r.name, orAll(q.namespace))
	}
	return t.printStat(r.kind, rows)
}

func orAll(namespace string) string {
	if namespace == "" {
		return "any namespace"
	}
	return "namespace " + namespace
}

// statQuery is one run of stat.
type statQuery struct {
	fleet     *fleet.Fleet
	resource  resource
	namespace string // "" for all
	window    time.Duration
	from, to  *traffic.End
	selectors map[mesh.Name]labels.Selector // of services
}

func (q *statQuery) ends(namespace string, o *statOptions) error {
	if o.from != "" && o.to != "" {
		return errors.New("--from and --to exclude each other")
	}
	if q.resource.kind == aPod && o.from+o.to != "" {
		return errors.New("pods are counted without their peers: see `fairlead edges pod`")
	}
	parse := func(text, namespace string) (*traffic.End, error) {
		if text == "" {
			return nil, nil
		}
		e, err := parseEnd(text, namespace)
		return &e, err
	}
	to := namespace
	if o.toNamespace != "" {
		to = o.toNamespace
	}
	var err error
	if q.from, err = parse(o.from, namespace); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if q.to, err = parse(o.to, to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	if q.from != nil && q.from.Service != "" {
		return errors.New("--from: a service calls nobody, its workloads do")
	}
	return nil
}

// wanted tells whether a hop counts for the end of a row.
func (q *statQuery) wanted(row traffic.End) func(traffic.Pair) bool {
	switch {
	case q.to != nil:
		return func(p traffic.Pair) bool { return traffic.Sent(p) && row.IsSource(p) && q.to.IsTarget(p) }
	case row.Service != "":
		return func(p traffic.Pair) bool {
			return traffic.Sent(p) && row.IsTarget(p) && (q.from == nil || q.from.IsSource(p))
		}
	}
	return func(p traffic.Pair) bool {
		return traffic.Served(p) && row.IsTarget(p) && (q.from == nil || q.from.IsSource(p))
	}
}
