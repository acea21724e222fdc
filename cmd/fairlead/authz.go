package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

var authzKinds = []kind{aPod, aWorkload, aNamespace, aDeploy, aStateful, aDaemonSet, aJob, aCronJob}

func (t *tool) authzCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "authz [KIND [NAME]]",
		GroupID: "see",
		Short:   "which policies are about a pod, and what they have decided",
		Long: `Shows for each pod of the mesh the rules of AuthorizationPolicies that are about it, its default policy, and how often each has
allowed, denied or audited something, as the pod's node counts it.

KIND is pod (without one), workload, deployment and the like, or namespace. The counters begin again when the pod's row or a policy changes.`,
		Example: `  fairlead authz -n shop
  fairlead authz deploy/cart -n shop -o wide`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: t.complete(authzKinds...),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.authz(cmd.Context(), args) },
	}
	t.formats(cmd, "table", "wide", "json")
	return cmd
}

func (t *tool) authz(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{string(aPod)}
	}
	r, err := parseResource(args, authzKinds...)
	if err != nil {
		return err
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return err
	}
	namespace := t.namespace(c)
	if r.kind == aNamespace && r.name != "" {
		namespace = r.name
	}
	pods, err := remote.List[corev1.Pod](ctx, c, remote.Query{Namespace: namespace})
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range pods {
		wanted[string(pods[i].UID)] = r.means(&pods[i])
	}
	told := fleet.Proxies[[]debug.Authz](ctx, f, nodes, debug.AuthzPath, nil)
	if err := nobody(told); err != nil {
		return err
	}
	for _, m := range missed(told) {
		fmt.Fprintln(t.err, "not counted:", m)
	}
	all := []debug.Authz{}
	for _, one := range told {
		for _, a := range one.What {
			if wanted[a.UID] {
				all = append(all, a)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b debug.Authz) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return t.printAuthz(all)
}

// means tells whether a pod is one of those that are looked at.
func (r resource) means(p *corev1.Pod) bool {
	switch r.kind {
	case aNamespace:
		return r.name == "" || r.name == p.Namespace
	case aPod:
		return r.name == "" || r.name == p.Name
	case aWorkload:
		return r.name == "" || r.name == workloadOf(p).Name
	}
	return ownerKind(p) == r.kind && (r.name == "" || r.name == workloadOf(p).Name)
}

func (t *tool) printAuthz(all []debug.Authz) error {
	if t.format == "json" {
		return printJSON(t.out, all)
	}
	heads := []string{"POD", "DEFAULT", "POLICY", "ACTION", "RULE", ">ALLOWED", ">DENIED", ">AUDITED"}
	if t.format == "wide" {
		heads = append(heads, "MATCHES")
	}
	table := newTable(heads...)
	for _, a := range all {
		pod := a.Name
		if t.all {
			pod = a.Namespace + "/" + a.Name
		}
		rules := a.Rules
		if len(rules) == 0 {
			rules = []debug.AuthzRule{{}}
		}
		for _, r := range rules {
			name := r.Policy
			if r.Namespace != "" {
				name = r.Namespace + "/" + r.Policy
			}
			cells := []string{pod, a.DefaultPolicy, dash(name), dash(r.Action), dash(r.Rule), fmt.Sprint(r.Allowed), fmt.Sprint(r.Denied), fmt.Sprint(r.Audited)}
			if t.format == "wide" {
				cells = append(cells, dash(r.Text))
			}
			table.row(cells...)
		}
	}
	table.print(t.out)
	return nil
}
