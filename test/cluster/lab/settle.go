package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"fairlead.io/fairlead/test/cluster/config"
)

// settle brings the programs that run to a cluster that works.
func (l *Lab) settle(ctx context.Context) error {
	api, err := l.api()
	if err != nil {
		return err
	}
	first := l.Cluster.Node(1)
	if err := wait(ctx, "the API server", l.log(first, "kube-apiserver"), readyTimeout, func(ctx context.Context) error {
		return api.get(ctx, "/readyz", nil)
	}); err != nil {
		return err
	}
	if err := l.apply(ctx); err != nil {
		return err
	}
	if err := l.loadOwn(ctx); err != nil {
		return err
	}
	for _, n := range l.Cluster.All() {
		if err := wait(ctx, "node "+n.Name+" to be ready", l.log(n, "kubelet"), readyTimeout, func(ctx context.Context) error {
			return api.nodeReady(ctx, n.Name, l.started[n.Name])
		}); err != nil {
			return err
		}
	}
	return wait(ctx, "CoreDNS", l.log(first, "kubelet"), readyTimeout, func(ctx context.Context) error {
		return api.available(ctx, "kube-system", "coredns")
	})
}

// apply makes the objects that every cluster has. The API server may be ready before what they need is there.
func (l *Lab) apply(ctx context.Context) error {
	objects, err := l.Cluster.Objects()
	if err != nil {
		return err
	}
	return wait(ctx, "the cluster's first objects", l.log(l.Cluster.Node(1), "kube-apiserver"), readyTimeout, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, l.Kubectl(), "apply", "--server-side", "--force-conflicts", "--field-manager=cluster", "-f", "-")
		cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
		cmd.Stdin = bytes.NewReader(objects)
		cmd.WaitDelay = time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("kubectl apply: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}

// loadOwn loads the images that every cluster has, into all nodes at once.
func (l *Lab) loadOwn(ctx context.Context) error {
	images, err := filepath.Glob(filepath.Join(l.Build, "images", "*.tar"))
	if err != nil {
		return err
	}
	return l.each(func(n config.Node) error {
		if err := wait(ctx, "containerd on "+n.Name, l.log(n, "containerd"), readyTimeout, func(ctx context.Context) error {
			return l.ctr(ctx, n, nil, "version")
		}); err != nil {
			return err
		}
		return l.loadInto(ctx, n, images)
	})
}

// Load imports images, from tar files, into each node.
func (l *Lab) Load(ctx context.Context, images []string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	return l.each(func(n config.Node) error {
		if _, ok := l.records().Get(n.Name); !ok {
			return nil // it is stopped; who starts it loads anew what it lacks
		}
		return l.loadInto(ctx, n, images)
	})
}

const loadTimeout = 5 * time.Minute

func (l *Lab) loadInto(ctx context.Context, n config.Node, images []string) error {
	for _, image := range images {
		f, err := os.Open(image)
		if err != nil {
			return err
		}
		err = l.ctr(ctx, n, f, "images", "import", "--local", "-")
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("load %s into %s: %w", image, n.Name, err)
		}
	}
	return nil
}

// ctr runs containerd's client on a node, in Kubernetes' part of containerd.
func (l *Lab) ctr(ctx context.Context, n config.Node, stdin *os.File, args ...string) error {
	cmd, err := l.onNode(ctx, n, append([]string{"ctr", "--namespace", "k8s.io"}, args...))
	if err != nil {
		return err
	}
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// each does the same on all nodes at once.
func (l *Lab) each(do func(config.Node) error) error {
	nodes := l.Cluster.All()
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (l *Lab) log(n config.Node, service string) string {
	spec, err := l.spec(n)
	if err != nil {
		return l.nodeDir(n)
	}
	return spec.LogFile(service)
}

// nodeReady is an error until the node has said that it is, at the time or later: what it said before it was ended holds on
// for a while.
func (a *api) nodeReady(ctx context.Context, name string, since time.Time) error {
	var n struct {
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
		}
	}
	if err := a.get(ctx, "/api/v1/nodes/"+name, &n); err != nil {
		return err
	}
	for _, c := range n.Status.Conditions {
		if c.Type != "Ready" {
			continue
		}
		if c.LastHeartbeatTime.Before(since.Truncate(time.Second)) {
			break
		}
		if c.Status != "True" {
			return errors.New(c.Message)
		}
		return nil
	}
	return errors.New("its kubelet has not reported")
}

// available is an error until all replicas of a Deployment are.
func (a *api) available(ctx context.Context, namespace, name string) error {
	var d struct {
		Spec   struct{ Replicas int }
		Status struct{ AvailableReplicas, UpdatedReplicas int }
	}
	if err := a.get(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, &d); err != nil {
		return err
	}
	if d.Status.UpdatedReplicas < d.Spec.Replicas || d.Status.AvailableReplicas < d.Spec.Replicas {
		return fmt.Errorf("%d of %d pods are available", d.Status.AvailableReplicas, d.Spec.Replicas)
	}
	return nil
}

// statusError is an answer that is not 200.
func statusError(resp *http.Response, body []byte) error {
	return fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body[:min(len(body), 200)]))
}
