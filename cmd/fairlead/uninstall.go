package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.io/fairlead/deploy"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

func (t *tool) uninstallCommand() *cobra.Command {
	dryRun, force := false, false
	cmd := &cobra.Command{
		Use:     "uninstall",
		GroupID: "mesh",
		Short:   "clean every node, then print what is left to delete",
		Long: `First runs the clean-up, as 'helm uninstall' does: every pod leaves the mesh, and each node is rid of programs, maps, rules,
files and the CNI entry. That is a Job, whose end is waited for. Then it prints the objects that are left, for kubectl to delete.
If a node could not be cleaned, it says which one, and prints nothing.`,
		Example: `  fairlead uninstall | kubectl delete -f -`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.uninstall(cmd.Context(), dryRun, force)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "clean nothing, only print what would be deleted")
	cmd.Flags().BoolVar(&force, "force", false, "print what is left though a node could not be cleaned")
	return cmd
}

func (t *tool) uninstall(ctx context.Context, dryRun, force bool) error {
	i, err := t.installed(ctx)
	if err != nil {
		return err
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	o, err := i.options(t.home)
	if err != nil {
		return err
	}
	o.IncludeHooks = true
	r, err := deploy.Render(o)
	if err != nil {
		return err
	}
	if !dryRun {
		if err := t.cleanUp(ctx, f, r); err != nil {
			if !force {
				return err
			}
			fmt.Fprintln(t.err, "going on all the same:", err)
		}
	}
	left, err := leftOver(ctx, f, r.Objects, t.home)
	if err != nil {
		return err
	}
	if len(left) == 0 {
		fmt.Fprintln(t.err, "nothing is left")
		return nil
	}
	return deploy.YAML(t.out, left)
}

// cleanUp runs the hooks before a deletion, in order, and waits for the Job among them.
func (t *tool) cleanUp(ctx context.Context, f *fleet.Fleet, r *deploy.Rendered) error {
	if err := t.useImage(ctx, f, r); err != nil {
		return err
	}
	var job *unstructured.Unstructured
	var made []*unstructured.Unstructured
	for _, h := range r.Hooks {
		if !h.On("pre-delete") {
			continue
		}
		if err := replace(ctx, f, h.Object); err != nil {
			return err
		}
		made = append(made, h.Object)
		if h.Object.GetKind() == "Job" {
			job = h.Object
		}
	}
	if job == nil {
		return errors.New("the chart has no Job that cleans up")
	}
	fmt.Fprintln(t.err, "pods leave the mesh, and the nodes are cleaned: this takes a minute or so")
	if err := t.finished(ctx, f, job); err != nil {
		return err // what was made stays, to be looked at
	}
	slices.Reverse(made)
	for _, o := range made {
		if err := f.Delete(ctx, o); err != nil {
			return err
		}
	}
	fmt.Fprintln(t.err, "every node is clean")
	return nil
}

// useImage has the clean-up use the images that run: they are there, whatever version this tool is of.
func (t *tool) useImage(ctx context.Context, f *fleet.Fleet, r *deploy.Rendered) error {
	controller, err := remote.Get[appsv1.Deployment](ctx, f.Client, t.home, fleet.ControllerName)
	if remote.IsNotFound(err) {
		return nil // then those of the values
	}
	if err != nil {
		return err
	}
	nodes, err := remote.Get[appsv1.DaemonSet](ctx, f.Client, t.home, fleet.NodeName)
	if err != nil && !remote.IsNotFound(err) {
		return err
	}
	for _, h := range r.Hooks {
		switch h.Object.GetKind() {
		case "Job":
			if err := setImage(h.Object, controller.Spec.Template.Spec.Containers); err != nil {
				return err
			}
		case "ConfigMap":
			if err == nil && nodes != nil {
				swapImage(r, h.Object, nodes.Spec.Template.Spec.Containers)
			}
		}
	}
	return nil
}

func setImage(job *unstructured.Unstructured, from []corev1.Container) error {
	containers, _, err := unstructured.NestedSlice(job.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) == 0 || len(from) == 0 {
		return errors.Join(errors.New("the Job that cleans up has no container"), err)
	}
	container, _ := containers[0].(map[string]any)
	container["image"] = from[0].Image
	return unstructured.SetNestedSlice(job.Object, containers, "spec", "template", "spec", "containers")
}

// swapImage puts the node's image that runs in place of the one that was rendered, within the text of the DaemonSet that cleans.
func swapImage(r *deploy.Rendered, config *unstructured.Unstructured, from []corev1.Container) {
	rendered := ""
	for _, o := range r.Objects {
		if o.GetKind() == "DaemonSet" {
			if containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers"); len(containers) > 0 {
				first, _ := containers[0].(map[string]any)
				rendered, _ = first["image"].(string)
			}
		}
	}
	data, _, _ := unstructured.NestedStringMap(config.Object, "data")
	if rendered == "" || len(from) == 0 || data == nil {
		return
	}
	for key, text := range data {
		data[key] = strings.ReplaceAll(text, rendered, from[0].Image)
	}
	_ = unstructured.SetNestedStringMap(config.Object, data, "data")
}

// replace makes an object in place of one that an earlier try has left.
func replace(ctx context.Context, f *fleet.Fleet, o *unstructured.Unstructured) error {
	if err := f.Delete(ctx, o); err != nil {
		return err
	}
	for range 30 {
		err := f.Create(ctx, o)
		if err == nil || !remote.IsAlreadyExists(err) {
			return err
		}
		if err := f.Clock.Wait(ctx, time.Second); err != nil { // the old one is still going
			return err
		}
	}
	return fmt.Errorf("%s %s of an earlier try does not go away", o.GetKind(), o.GetName())
}

// finished waits for the Job, as long as it may take.
func (t *tool) finished(ctx context.Context, f *fleet.Fleet, job *unstructured.Unstructured) error {
	seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
	until := t.clock.Time().Add(time.Duration(max(seconds, 60))*time.Second + 30*time.Second)
	for {
		j, err := remote.Get[batchv1.Job](ctx, f.Client, job.GetNamespace(), job.GetName())
		if err != nil {
			return err
		}
		for _, c := range j.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				continue
			}
			switch c.Type {
			case batchv1.JobComplete:
				return nil
			case batchv1.JobFailed:
				return fmt.Errorf("the clean-up has failed: %s; `kubectl -n %s logs job/%s` says more, --force goes on without it",
					t.lastWords(ctx, f, job, c.Message), job.GetNamespace(), job.GetName())
			}
		}
		if !t.clock.Time().Before(until) {
			return fmt.Errorf("the clean-up does not end: `kubectl -n %s describe job/%s` says why", job.GetNamespace(), job.GetName())
		}
		if err := f.Clock.Wait(ctx, time.Second); err != nil {
			return err
		}
	}
}

// lastWords are what the Job's pod has said at its end.
func (t *tool) lastWords(ctx context.Context, f *fleet.Fleet, job *unstructured.Unstructured, otherwise string) string {
	pods, err := remote.List[corev1.Pod](ctx, f.Client, remote.Query{Namespace: job.GetNamespace(), Labels: "batch.kubernetes.io/job-name=" + job.GetName()})
	if err != nil {
		return otherwise
	}
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			if end := s.State.Terminated; end != nil && end.Message != "" {
				return strings.TrimSpace(end.Message)
			}
		}
	}
	return otherwise
}

// leftOver are the objects of an installation that are there, the last made first. Kinds of object that are ours stay, and with
// them what users have made of them.
func leftOver(ctx context.Context, f *fleet.Fleet, objects []*unstructured.Unstructured, home string) ([]*unstructured.Unstructured, error) {
	kept := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": valuesName, "namespace": home}}}
	var left []*unstructured.Unstructured
	for _, o := range append(slices.Clone(objects), kept) {
		if o.GetKind() == "CustomResourceDefinition" {
			continue
		}
		there, err := f.Exists(ctx, o)
		if err != nil {
			return nil, err
		}
		if there {
			short := &unstructured.Unstructured{Object: map[string]any{}}
			short.SetGroupVersionKind(o.GroupVersionKind())
			short.SetName(o.GetName())
			short.SetNamespace(o.GetNamespace())
			left = append(left, short)
		}
	}
	slices.Reverse(left)
	return left, nil
}
