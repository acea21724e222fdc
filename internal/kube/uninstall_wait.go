package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LeaveState is how far the mesh has been left, as the leader answers GET /uninstall-state.
type LeaveState struct {
	Closed   bool           `json:"closed"`   // the leader has seen the sign to leave
	InMesh   int            `json:"inMesh"`   // pods that are announced as in the mesh
	Captured map[string]int `json:"captured"` // pods that a node has captured, of the nodes whose keepers are connected
}

// Left tells whether nobody is in the mesh any more.
func (s LeaveState) Left() bool {
	for _, n := range s.Captured {
		if n > 0 {
			return false
		}
	}
	return s.Closed && s.InMesh == 0
}

var (
	errNotYet       = errors.New("not yet")
	errNoController = errors.New("there is no controller")
)

// poll looks until the answer is yes, or the time is over. Failures are looked over: the API server may be away for a
// moment.
func (u *Uninstaller) poll(ctx context.Context, atMost time.Duration, what string, look func(context.Context) (bool, error)) error {
	limit, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	last := errNotYet
	for {
		// The last one may end after the limit, but with an answer.
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		yes, err := look(request)
		cancel()
		if yes {
			return nil
		}
		if err != nil {
			last = err
		}
		if !pause(limit, u.cfg.Every) {
			return fmt.Errorf("wait for %s: %w", what, errors.Join(limit.Err(), last))
		}
	}
}

// patience tells whether something has lasted for Silence.
type patience struct {
	since time.Time
	limit time.Duration
}

func (u *Uninstaller) newPatience() *patience { return &patience{limit: u.cfg.Silence} }

func (p *patience) over(lasts bool) bool {
	switch {
	case !lasts:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = time.Now()
	}
	return lasts && time.Since(p.since) >= p.limit
}

// leave waits until nobody is in the mesh. Who does not leave in time is cut off by the clean-up.
func (u *Uninstaller) leave(ctx context.Context) error {
	silent, missing := u.newPatience(), u.newPatience()
	err := u.poll(ctx, u.cfg.Timeout/3, "everybody to leave the mesh", func(ctx context.Context) (bool, error) {
		state, err := u.state(ctx)
		if errors.Is(err, errNoController) || silent.over(err != nil) {
			u.cfg.Log.Warn("the controller does not answer: going on without it", "err", err)
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if !state.Left() {
			return false, fmt.Errorf("%d pods in the mesh, captured by node: %v", state.InMesh, state.Captured)
		}
		ready, err := u.keepersReady(ctx)
		if err != nil {
			return false, err
		}
		if away := ready - len(state.Captured); away > 0 && !missing.over(true) {
			return false, fmt.Errorf("%d keepers have not spoken yet", away)
		}
		return true, nil
	})
	if err != nil && ctx.Err() == nil {
		u.cfg.Log.Warn("not everybody has left the mesh in order", "err", err)
		return nil
	}
	return err
}

// keepersReady is how many nodes' programs are ready, so that their keepers ought to be connected.
func (u *Uninstaller) keepersReady(ctx context.Context) (int, error) {
	d, err := u.client.AppsV1().DaemonSets(u.cfg.Namespace).Get(ctx, Node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read DaemonSet %s: %w", Node, err)
	}
	return int(d.Status.NumberReady), nil
}

// state asks the leader, where nodes find it.
func (u *Uninstaller) state(ctx context.Context) (LeaveState, error) {
	var state LeaveState
	slice, err := u.client.DiscoveryV1().EndpointSlices(u.cfg.Namespace).Get(ctx, Controller, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return state, errNoController
	}
	if err != nil {
		return state, fmt.Errorf("read endpoint slice: %w", err)
	}
	port := 0
	for _, p := range slice.Ports {
		if p.Name != nil && *p.Name == adminPort && p.Port != nil {
			port = int(*p.Port)
		}
	}
	if port == 0 || len(slice.Endpoints) == 0 || len(slice.Endpoints[0].Addresses) == 0 {
		return state, errNoController
	}
	url := "http://" + net.JoinHostPort(slice.Endpoints[0].Addresses[0], strconv.Itoa(port)) + "/uninstall-state"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return state, fmt.Errorf("ask the leader: %w", err)
	}
	answer, err := u.http.Do(req)
	if err != nil {
		return state, fmt.Errorf("ask the leader: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return state, fmt.Errorf("ask the leader: %s", answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&state); err != nil {
		return state, fmt.Errorf("ask the leader: %w", err)
	}
	return state, nil
}

// clean runs the DaemonSet until it is ready on every node that is there.
func (u *Uninstaller) clean(ctx context.Context, cleanup *appsv1.DaemonSet) error {
	sets := u.client.AppsV1().DaemonSets(u.cfg.Namespace)
	made := false
	silent := u.newPatience()
	return u.poll(ctx, u.cfg.Timeout, "all nodes to be clean", func(ctx context.Context) (bool, error) {
		if !made {
			if _, err := sets.Create(ctx, cleanup, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				return false, fmt.Errorf("make DaemonSet %s: %w", Cleanup, err)
			}
			made = true
		}
		d, err := sets.Get(ctx, Cleanup, metav1.GetOptions{})
		if err != nil {
			return false, fmt.Errorf("read DaemonSet %s: %w", Cleanup, err)
		}
		if d.Status.ObservedGeneration < max(d.Generation, 1) {
			return false, errors.New("nobody has looked at the DaemonSet yet")
		}
		if d.Status.NumberReady >= d.Status.DesiredNumberScheduled {
			return true, nil
		}
		left, err := u.podsLeft(ctx, d.Spec.Selector, func(p *corev1.Pod) bool { return !ready(p.Status.Conditions, corev1.PodReady) })
		if err != nil {
			return false, err
		}
		if silent.over(len(left.here) == 0 && len(left.away) > 0) {
			u.cfg.Log.Warn("nodes are away, and were not cleaned", "nodes", left.away)
			return true, nil
		}
		return false, left.err()
	})
}

// left are pods that something waits for, by their nodes: on those that are ready, and on others.
type left struct{ here, away []string }

func (l left) err() error {
	return fmt.Errorf("still to do on %v; not ready are %v", l.here, l.away)
}

func (u *Uninstaller) podsLeft(ctx context.Context, selector *metav1.LabelSelector, wanted func(*corev1.Pod) bool) (left, error) {
	var l left
	nodes, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return l, fmt.Errorf("list nodes: %w", err)
	}
	pods, err := u.client.CoreV1().Pods(u.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
	if err != nil {
		return l, fmt.Errorf("list pods: %w", err)
	}
	there := map[string]bool{}
	for _, n := range nodes.Items {
		there[n.Name] = nodeReady(&n)
	}
	for _, p := range pods.Items {
		switch {
		case !wanted(&p):
		case p.Spec.NodeName == "":
			l.here = append(l.here, "no node: pod "+p.Name)
		case there[p.Spec.NodeName]:
			l.here = append(l.here, p.Spec.NodeName+why(&p))
		default:
			l.away = append(l.away, p.Spec.NodeName)
		}
	}
	slices.Sort(l.here)
	slices.Sort(l.away)
	return l, nil
}

// why says what a container of a pod waits for, such as an image.
func why(p *corev1.Pod) string {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return fmt.Sprintf(" (%s: %.200s)", w.Reason, w.Message)
		}
	}
	return ""
}

func ready(conditions []corev1.PodCondition, t corev1.PodConditionType) bool {
	return slices.ContainsFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
