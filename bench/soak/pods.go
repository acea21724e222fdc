package soak

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/testnet"
)

// addPod starts a pod in the mesh. A workload of many pods is one name in the metrics.
func (s *stage) addPod(ctx context.Context, node int, name, app, account string) (*testnet.Pod, error) {
	p, err := s.mesh.Nodes[node].AddPod(ctx, testnet.PodSpec{Namespace: meshed, Name: name, Workload: app, Account: account,
		Labels: map[string]string{"app": app}, NotReady: true, Retry: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	s.pods[p] = struct{}{}
	return p, nil
}

func (s *stage) deletePod(ctx context.Context, p *testnet.Pod) error {
	delete(s.pods, p)
	return p.Delete(ctx)
}

// addService makes the Service of the pods of an app and returns its address.
func (s *stage) addService(app string) (string, error) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: meshed, Name: app}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": app}}}
	for _, port := range []int32{webPort, grpcPort, echoPort} {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", port), Port: port})
	}
	made, err := s.lab.AddService(service)
	if err != nil {
		return "", err
	}
	return made.Spec.ClusterIP, nil
}

// own is a command of this program.
func (s *stage) own(log string, args ...string) testnet.Command {
	return testnet.Command{Path: s.cfg.Self, Args: args, Log: log + ".log"}
}

// server is a pod with what it serves.
type server struct {
	pod  *testnet.Pod
	proc *testnet.Process
}

// addServer starts a pod, what it serves, and makes it ready when that listens.
func (s *stage) addServer(ctx context.Context, node int, name, app string, args ...string) (server, error) {
	p, err := s.addPod(ctx, node, name, app, app)
	if err != nil {
		return server{}, err
	}
	proc, err := p.Start(s.own(app, append([]string{"serve"}, args...)...))
	if err != nil {
		return server{}, fmt.Errorf("start %s: %w", name, err)
	}
	for _, port := range []int{webPort, grpcPort, echoPort} {
		if err := waitListening(ctx, p, port); err != nil {
			return server{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return server{p, proc}, p.SetReady(true)
}

// notice is how long a pod that is being deleted still serves: what a preStop hook waits.
const notice = 2 * time.Second

// retire ends a server in order, as a rollout does: it is no endpoint any more, is told to end, has ended, is deleted.
func (s *stage) retire(ctx context.Context, old server) error {
	if err := old.pod.Terminate(); err != nil {
		return err
	}
	if err := pause(ctx, notice); err != nil {
		return err
	}
	if err := old.proc.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("tell %s to end: %w", old.pod.Name, err)
	}
	wait, cancel := context.WithTimeout(ctx, grace+5*time.Second)
	defer cancel()
	if err := old.proc.Wait(wait); err != nil {
		return fmt.Errorf("%s has not ended in order: %w", old.pod.Name, err)
	}
	return s.deletePod(ctx, old.pod)
}

// waitListening waits until something in the pod accepts connections on its loopback.
func waitListening(ctx context.Context, p *testnet.Pod, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		c, err := p.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c.Close()
		}
		if waited := pause(ctx, 20*time.Millisecond); waited != nil {
			return errors.Join(fmt.Errorf("wait for port %d: %w", port, waited), err)
		}
	}
}
