package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairlead.io/fairlead/internal/compile"
)

// StartupTaint keeps pods off a fresh node until its keeper has spoken.
const StartupTaint = "fairlead.io/not-ready"

// TaintsConfig configures Taints.
type TaintsConfig struct {
	Client  kubernetes.Interface
	Source  *Source
	Keepers func() []string // nodes whose keepers have reported
	Every   time.Duration   // how often is looked; 1 s
	Log     *slog.Logger
}

// Taints takes the start-up taint off nodes whose keepers have reported. A node has it from whoever made the node.
type Taints struct{ cfg TaintsConfig }

// NewTaints makes Taints; Run works them.
func NewTaints(cfg TaintsConfig) *Taints {
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Taints{cfg: cfg}
}

// Run takes taints off until the context ends.
func (t *Taints) Run(ctx context.Context) error {
	failed := map[string]bool{}
	for pause(ctx, t.cfg.Every) {
		for _, name := range t.cfg.Keepers() {
			if !tainted(t.cfg.Source.node(name)) {
				delete(failed, name)
				continue
			}
			err := t.takeOff(ctx, name)
			switch {
			case err == nil:
				t.cfg.Log.Info("start-up taint taken off", "node", name)
			case !failed[name] && ctx.Err() == nil:
				t.cfg.Log.Warn("start-up taint not taken off", "node", name, "err", err)
			}
			failed[name] = err != nil
		}
	}
	return nil
}

func tainted(n *corev1.Node) bool {
	return n != nil && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == StartupTaint })
}

// takeOff leaves the other taints as they are: the API server refuses a list that was made of an older node.
func (t *Taints) takeOff(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	nodes := t.cfg.Client.CoreV1().Nodes()
	n, err := nodes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read node: %w", err)
	}
	rest := slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == StartupTaint })
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": n.ResourceVersion}, "spec": map[string]any{"taints": rest},
	})
	if err != nil {
		return fmt.Errorf("make patch: %w", err)
	}
	if _, err := nodes.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("patch node: %w", err)
	}
	return nil
}

func (s *Source) node(name string) *corev1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := s.objects[compile.Key{Kind: compile.Node, Name: name}].(*corev1.Node)
	return n
}
