package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// UninstallConfig configures an Uninstaller.
type UninstallConfig struct {
	Client         kubernetes.Interface
	Namespace      string
	IssuerSecret   string
	RootsConfigMap string
	// Manifest is the DaemonSet that takes everything of ours off a node, as YAML.
	Manifest []byte
	// Timeout is how long all may take; a third of it is for leaving in order. 2 min.
	Timeout time.Duration
	// Silence is how long somebody may say nothing before it is gone on without them: the controller, or a node
	// that is not ready; 20 s.
	Silence time.Duration
	// Every is how often is looked; 1 s.
	Every time.Duration
	Log   *slog.Logger
}

// Uninstaller takes Fairlead out of a cluster: everybody leaves the mesh in order, the nodes are cleaned, and what
// the controller has made is deleted. What the chart has made is the chart's to delete, but for the DaemonSet and
// the Deployment, which would make it anew.
type Uninstaller struct {
	cfg    UninstallConfig
	client kubernetes.Interface
	http   *http.Client
}

// NewUninstaller makes an Uninstaller; Run does it.
func NewUninstaller(cfg UninstallConfig) *Uninstaller {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.Silence == 0 {
		cfg.Silence = 20 * time.Second
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Uninstaller{cfg: cfg, client: cfg.Client, http: &http.Client{Timeout: 5 * time.Second}}
}

// Run does all steps, each of which can be done again. It works too when some are done already, or the controller
// or the nodes' programs are gone.
func (u *Uninstaller) Run(ctx context.Context) error {
	cleanup, err := u.manifest()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"give the sign to leave", u.sign},
		{"leave the mesh", u.leave},
		{"stop the nodes' programs", func(ctx context.Context) error { return u.stopDaemonSet(ctx, Node) }},
		{"stop the controller", u.stopController},
		{"stop an earlier clean-up", func(ctx context.Context) error { return u.stopDaemonSet(ctx, Cleanup) }},
		{"clean the nodes", func(ctx context.Context) error { return u.clean(ctx, cleanup) }},
		{"stop the clean-up", func(ctx context.Context) error { return u.stopDaemonSet(ctx, Cleanup) }},
		{"delete what the controller has made", u.deleteGenerated},
	} {
		u.cfg.Log.Info("uninstall", "step", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	u.cfg.Log.Info("uninstalled")
	return nil
}

func (u *Uninstaller) manifest() (*appsv1.DaemonSet, error) {
	d := &appsv1.DaemonSet{}
	if err := yaml.UnmarshalStrict(u.cfg.Manifest, d); err != nil {
		return nil, fmt.Errorf("read the manifest of the clean-up: %w", err)
	}
	if d.Kind != "DaemonSet" || d.Name != Cleanup || d.Spec.Selector == nil {
		return nil, fmt.Errorf("read the manifest of the clean-up: want the DaemonSet %s, not %s %q", Cleanup, d.Kind, d.Name)
	}
	d.Namespace = u.cfg.Namespace
	return d, nil
}

func (u *Uninstaller) sign(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	leave := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: LeaveConfigMap, Namespace: u.cfg.Namespace, Labels: map[string]string{generatedLabel: "true"},
	}}
	_, err := u.client.CoreV1().ConfigMaps(u.cfg.Namespace).Create(ctx, leave, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make ConfigMap %s: %w", LeaveConfigMap, err)
	}
	return nil
}

func (u *Uninstaller) stopController(ctx context.Context) error {
	deployments := u.client.AppsV1().Deployments(u.cfg.Namespace)
	return u.gone(ctx, "Deployment "+Controller, func(ctx context.Context) (*metav1.LabelSelector, error) {
		d, err := deployments.Get(ctx, Controller, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return d.Spec.Selector, deletion(d.DeletionTimestamp, func(o metav1.DeleteOptions) error { return deployments.Delete(ctx, Controller, o) })
	})
}

func (u *Uninstaller) stopDaemonSet(ctx context.Context, name string) error {
	sets := u.client.AppsV1().DaemonSets(u.cfg.Namespace)
	return u.gone(ctx, "DaemonSet "+name, func(ctx context.Context) (*metav1.LabelSelector, error) {
		d, err := sets.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return d.Spec.Selector, deletion(d.DeletionTimestamp, func(o metav1.DeleteOptions) error { return sets.Delete(ctx, name, o) })
	})
}

// deletion deletes what is not being deleted already, its pods first.
func deletion(begun *metav1.Time, request func(metav1.DeleteOptions) error) error {
	if begun != nil {
		return nil
	}
	foreground := metav1.DeletePropagationForeground
	return request(metav1.DeleteOptions{PropagationPolicy: &foreground})
}

// gone deletes an object and waits until it and its pods are there no more. Pods of nodes that are away cannot go:
// after a while it is gone on without them.
func (u *Uninstaller) gone(ctx context.Context, what string, look func(context.Context) (*metav1.LabelSelector, error)) error {
	silent := u.newPatience()
	return u.poll(ctx, u.cfg.Timeout, what+" to be gone", func(ctx context.Context) (bool, error) {
		selector, err := look(ctx)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		left, err := u.podsLeft(ctx, selector, func(*corev1.Pod) bool { return true })
		if err != nil {
			return false, err
		}
		if silent.over(len(left.here) == 0 && len(left.away) > 0) {
			u.cfg.Log.Warn("nodes are away, their pods stay", "what", what, "nodes", left.away)
			return true, nil
		}
		return false, left.err()
	})
}

// deleteGenerated deletes what the controller has made, and the sign to leave at the very last.
func (u *Uninstaller) deleteGenerated(ctx context.Context) error {
	core, ns := u.client.CoreV1(), u.cfg.Namespace
	secrets, maps := core.Secrets(ns), core.ConfigMaps(ns)
	issuer, err := secrets.Get(ctx, u.cfg.IssuerSecret, metav1.GetOptions{})
	if err == nil {
		err = u.deleteOurs(ctx, issuer, secrets.Delete)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Secret %s: %w", u.cfg.IssuerSecret, err)
	}
	roots, err := maps.Get(ctx, u.cfg.RootsConfigMap, metav1.GetOptions{})
	if err == nil {
		err = u.deleteOurs(ctx, roots, maps.Delete)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ConfigMap %s: %w", u.cfg.RootsConfigMap, err)
	}
	for _, d := range []struct {
		what, name string
		do         func(context.Context, string, metav1.DeleteOptions) error
	}{
		{"EndpointSlice", Controller, u.client.DiscoveryV1().EndpointSlices(ns).Delete},
		{"Lease", Controller, u.client.CoordinationV1().Leases(ns).Delete},
		{"ConfigMap", LeaveConfigMap, maps.Delete},
	} {
		if err := d.do(ctx, d.name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s: %w", d.what, d.name, err)
		}
	}
	return nil
}

// deleteOurs deletes an object if the controller has made it.
func (u *Uninstaller) deleteOurs(ctx context.Context, o metav1.Object, request func(context.Context, string, metav1.DeleteOptions) error) error {
	if o.GetLabels()[generatedLabel] != "true" {
		u.cfg.Log.Info("left alone: it was not made here", "object", o.GetName())
		return nil
	}
	uid := o.GetUID()
	return request(ctx, o.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}
