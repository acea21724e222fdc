package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) enrollCommand() *cobra.Command {
	wait := time.Duration(0)
	cmd := &cobra.Command{
		Use:     "enroll NAMESPACE...",
		GroupID: "pods",
		Short:   "bring the pods of namespaces into the mesh",
		Long: `Sets the label fairlead.io/mesh=enabled on namespaces. Their running pods join within seconds: none is restarted, and no
connection that is open is cut: it stays outside the mesh until it ends, and only new ones are seen. A pod with the label fairlead.io/mesh=disabled stays outside.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: t.completeMany(aNamespace),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.enroll(cmd.Context(), args, compile.Enabled, wait)
		},
	}
	addWait(cmd, &wait, "wait until every running pod is in the mesh, for so long")
	return cmd
}

func (t *tool) unenrollCommand() *cobra.Command {
	wait := time.Duration(0)
	cmd := &cobra.Command{
		Use:     "unenroll NAMESPACE...",
		GroupID: "pods",
		Short:   "take the pods of namespaces out of the mesh",
		Long: `Takes the label fairlead.io/mesh off namespaces. New connections go round the mesh at once; those that are open may go
on for 30 seconds. A pod with the label fairlead.io/mesh=enabled stays in the mesh.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: t.completeMany(aNamespace),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.enroll(cmd.Context(), args, "", wait)
		},
	}
	addWait(cmd, &wait, "wait until no pod is in the mesh any more, for so long")
	return cmd
}

// addWait adds --wait, which without a value waits for two minutes.
func addWait(cmd *cobra.Command, wait *time.Duration, usage string) {
	cmd.Flags().DurationVar(wait, "wait", 0, usage+"; without a time, 2m")
	cmd.Flags().Lookup("wait").NoOptDefVal = "2m"
}

func (t *tool) enroll(ctx context.Context, namespaces []string, value string, wait time.Duration) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	for _, ns := range namespaces {
		if ns == t.home || ns == "kube-system" {
			return fmt.Errorf("namespace %s is never in the mesh", ns)
		}
	}
	for _, ns := range namespaces {
		if err := c.LabelNamespace(ctx, ns, compile.EnrolLabel, value); err != nil {
			return err
		}
		fmt.Fprintf(t.out, "namespace %s %s\n", ns, map[bool]string{true: "enrolled", false: "unenrolled"}[value != ""])
	}
	if wait <= 0 {
		return nil
	}
	total, err := t.settled(ctx, f, namespaces, wait)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d pods are as they are to be", total)
	if value == compile.Enabled {
		text += fmt.Sprintf("; connections that were open stay outside the mesh until they end: `fairlead check --proxy -n %s` counts them", namespaces[0])
	}
	fmt.Fprintln(t.out, text)
	return nil
}

// settlePause is the time between two looks.
const settlePause = time.Second

// settled waits until the running pods of the namespaces are where they are to be, and says how many they are.
func (t *tool) settled(ctx context.Context, f *fleet.Fleet, namespaces []string, wait time.Duration) (int, error) {
	until := t.clock.Time().Add(wait)
	for {
		left, total, err := unsettled(ctx, f, namespaces)
		if err == nil && len(left) == 0 {
			return total, nil
		}
		if !t.clock.Time().Before(until) {
			if err != nil {
				return 0, err
			}
			return 0, fmt.Errorf("not within %v: %s; `fairlead check --proxy -n %s` says more", wait, strings.Join(left, ", "), namespaces[0])
		}
		if err := t.clock.Wait(ctx, settlePause); err != nil {
			return 0, err
		}
	}
}

// unsettled are the running pods that are to be in the mesh and are not, or the other way round.
func unsettled(ctx context.Context, f *fleet.Fleet, namespaces []string) (left []string, total int, err error) {
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return nil, 0, err
	}
	told := fleet.Proxies[[]debug.Pod](ctx, f, nodes, debug.PodsPath, nil)
	if err := nobody(told); err != nil {
		return nil, 0, err
	}
	known := captured(told)
	for _, name := range namespaces {
		ns, err := remote.Get[corev1.Namespace](ctx, f.Client, "", name)
		if err != nil {
			return nil, 0, err
		}
		pods, err := remote.List[corev1.Pod](ctx, f.Client, remote.Query{Namespace: name})
		if err != nil {
			return nil, 0, err
		}
		for i := range pods {
			p := &pods[i]
			if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil || p.Spec.HostNetwork {
				continue
			}
			wanted, err := compile.Wanted(ns, p)
			if err != nil {
				return nil, 0, fmt.Errorf("pod %s/%s: %w", name, p.Name, err)
			}
			total++
			is, ok := known[string(p.UID)]
			switch {
			case wanted && !is.InMesh:
				left = append(left, "pod "+name+"/"+p.Name+" is not in the mesh yet")
			case !wanted && ok:
				left = append(left, "pod "+name+"/"+p.Name+" is still in the mesh")
			}
		}
	}
	slices.Sort(left)
	return left, total, nil
}
