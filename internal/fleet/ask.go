package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/kube/remote"
)

// Source is a pod that was asked.
type Source struct {
	Pod  *corev1.Pod
	Date time.Time // by its own clock
	At   time.Time // by ours, when the answer came
	Err  error
}

// Node is the node that the pod runs on.
func (s *Source) Node() string { return s.Pod.Spec.NodeName }

// Told is what a pod has answered.
type Told[T any] struct {
	Source
	What T
}

// Ask asks every pod whose container runs for the same thing, and reads the answers with read.
func Ask[T any](ctx context.Context, f *Fleet, pods []corev1.Pod, container string, path string, query url.Values, read func([]byte) (T, error)) []Told[T] {
	port := ControllerPort
	if container == ProxyName {
		port = ProxyPort
	}
	told := make([]Told[T], len(pods))
	var wait sync.WaitGroup
	for i := range pods {
		t := &told[i]
		t.Pod = &pods[i]
		if !Serving(t.Pod, container) {
			t.Err = fmt.Errorf("container %s of pod %s does not run", container, t.Pod.Name)
			continue
		}
		wait.Go(func() {
			a, err := f.Ask(ctx, remote.Pod{Namespace: t.Pod.Namespace, Name: t.Pod.Name, Port: port}, path, query)
			t.At, t.Err = f.Clock.Time(), err
			if err != nil {
				return
			}
			t.Date = a.Date
			if t.What, err = read(a.Body); err != nil {
				t.Err = fmt.Errorf("read what pod %s answered to %s: %w", t.Pod.Name, path, err)
			}
		})
	}
	wait.Wait()
	return told
}

// Proxies asks every proxy for one of the paths of internal/node/debug.
func Proxies[T any](ctx context.Context, f *Fleet, pods []corev1.Pod, path string, query url.Values) []Told[T] {
	return Ask(ctx, f, pods, ProxyName, path, query, fromJSON[T])
}

func fromJSON[T any](body []byte) (T, error) {
	var what T
	err := json.Unmarshal(body, &what)
	return what, err
}

// Text is for answers that are read as they are.
func Text(body []byte) (string, error) { return string(body), nil }
