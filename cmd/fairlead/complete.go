package main

import (
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

// completeTimeout bounds how long a shell waits.
const completeTimeout = 3 * time.Second

type completion = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// quick is the cluster, asked with no patience.
func (t *tool) quick() *fleet.Fleet {
	t.remote.Timeout = completeTimeout
	c, err := t.connect()
	if err != nil {
		return nil
	}
	return t.fleet(c)
}

// fixed offers these words.
func fixed(words ...string) completion {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlags offers what global flags may be.
func (t *tool) completeFlags(root *cobra.Command) error {
	contexts := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		all, err := remote.Contexts(t.remote)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		slices.Sort(all)
		return all, cobra.ShellCompDirectiveNoFileComp
	}
	namespaces := func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return t.completeNames(aNamespace)(cmd, nil, word)
	}
	return errors.Join(
		root.RegisterFlagCompletionFunc("context", contexts),
		root.RegisterFlagCompletionFunc("namespace", namespaces),
		root.RegisterFlagCompletionFunc("fairlead-namespace", namespaces),
	)
}

// complete offers the kinds first, and then the names that there are of one.
func (t *tool) complete(known ...kind) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			var words []string
			for _, k := range known {
				words = append(words, string(k))
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		r, err := parseResource(args[:1], known...)
		f := t.quick()
		if err != nil || f == nil || len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return t.names(cmd, f, r.kind), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeNames offers the names that there are of a kind.
func (t *tool) completeNames(k kind) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		f := t.quick()
		if f == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return t.names(cmd, f, k), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeMany offers more names of a kind, but none twice.
func (t *tool) completeMany(k kind) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		f := t.quick()
		if f == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all := slices.DeleteFunc(t.names(cmd, f, k), func(n string) bool { return slices.Contains(args, n) })
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// names of a kind in the namespace that is looked at.
func (t *tool) names(cmd *cobra.Command, f *fleet.Fleet, k kind) []string {
	ctx, q := cmd.Context(), remote.Query{Namespace: t.namespace(f.Client)}
	var all []string
	switch k {
	case aNamespace:
		list, _ := remote.List[corev1.Namespace](ctx, f.Client, remote.Query{}) // without an answer nothing is offered
		for _, o := range list {
			all = append(all, o.Name)
		}
	case aService:
		list, _ := remote.List[corev1.Service](ctx, f.Client, q)
		for _, o := range list {
			all = append(all, o.Name)
		}
	default:
		list, _ := remote.List[corev1.Pod](ctx, f.Client, q)
		for i := range list {
			p := &list[i]
			switch k {
			case aPod:
				all = append(all, p.Name)
			case aWorkload, ownerKind(p):
				all = append(all, workloadOf(p).Name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
