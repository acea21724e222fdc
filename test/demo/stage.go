package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/internal/testnet/capture"
)

const namespace = "vote"

// cast is the application: which program runs where. Every caller has callees on its own node and on the other.
var cast = []struct {
	name, workload, account string
	node, port              int
	args                    []string
}{
	{"catalog-1", "catalog", "catalog", 0, 8081, []string{"--listen=:8081"}},
	{"catalog-2", "catalog", "catalog", 1, 8081, []string{"--listen=:8081"}},
	{"ballot-1", "ballot", "ballot", 1, 8082, []string{"--listen=:8082"}},
	{"front-1", "front", "front", 0, 8080, []string{"--listen=:8080", "--catalog=catalog:8081", "--ballot=ballot:8082"}},
	{"bot-1", "bot", "bot", 0, 0, nil},
}

// stage is the lab with all that plays in it.
type stage struct {
	o           options
	lab         *testnet.Lab
	mesh        *testnet.Mesh
	pods        []*testnet.Pod
	programs    []*testnet.Process // in the order of the cast
	bot         lastLine
	capture     *capture.Capture
	stopCapture func() error
}

// set starts everything, the bot last.
func (s *stage) set(ctx context.Context) error {
	if s.o.mesh == "on" {
		if err := s.lab.LabelNamespace(namespace, map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
			return err
		}
		mesh, err := s.lab.StartMesh(ctx, testnet.MeshConfig{Bin: s.o.bin, InstallCNI: true})
		if err != nil {
			return fmt.Errorf("start the mesh: %w", err)
		}
		s.mesh = mesh
	}
	if err := s.services(); err != nil {
		return err
	}
	for _, c := range cast {
		pod, err := s.lab.Node(c.node).AddPod(ctx, testnet.PodSpec{Namespace: namespace, Name: c.name, Workload: c.workload,
			Account: c.account, Labels: map[string]string{"app": c.workload}, Retry: 10 * time.Second})
		if err != nil {
			return err
		}
		s.pods = append(s.pods, pod)
	}
	if err := s.watch(); err != nil {
		return fmt.Errorf("capture packets: %w", err)
	}
	for i, c := range cast {
		cmd := testnet.Command{Path: filepath.Join(s.o.bin, c.workload), Args: c.args, Log: c.name + ".log"}
		if c.workload == "bot" {
			cmd.Args, cmd.Stdout = []string{"--front=front:80", fmt.Sprintf("--rate=%g", s.o.rate)}, &s.bot
			if err := s.waitPage(ctx); err != nil {
				return err
			}
		}
		program, err := s.pods[i].Start(cmd)
		if err != nil {
			return err
		}
		s.programs = append(s.programs, program)
	}
	return nil
}

func (s *stage) services() error {
	for _, svc := range []struct {
		name         string
		port, target int
	}{{"front", 80, 8080}, {"catalog", 8081, 8081}, {"ballot", 8082, 8082}} {
		_, err := s.lab.AddService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: svc.name},
			Spec: corev1.ServiceSpec{Selector: map[string]string{"app": svc.name},
				Ports: []corev1.ServicePort{{Name: "main", Port: int32(svc.port), TargetPort: intstr.FromInt(svc.target)}}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// watch captures on the link between the nodes and on every pod's interface, what goes from pod to pod.
func (s *stage) watch() error {
	c, err := capture.New(vote.Marker)
	if err != nil {
		return err
	}
	pods := map[netip.Addr]bool{}
	for _, n := range s.lab.Nodes() {
		if err := c.Attach(n.Name, n.Do, "eth0"); err != nil {
			return err
		}
	}
	for _, p := range s.pods {
		if err := c.Attach(p.Name, p.Do, "eth0"); err != nil {
			return err
		}
		for _, a := range p.Addrs {
			pods[a] = true
		}
	}
	c.Only(func(src, dst netip.Addr) bool { return pods[src] && pods[dst] })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	s.capture = c
	s.stopCapture = sync.OnceValue(func() error {
		stop()
		return <-done
	})
	return nil
}

// playing is an error if a program of the application has ended: what it would have met was not seen.
func (s *stage) playing() error {
	for i, p := range s.programs {
		select {
		case <-p.Done():
			return fmt.Errorf("%s has ended before its time", cast[i].name)
		default:
		}
	}
	return nil
}

// clear ends what plays and takes the product out of the kernel.
func (s *stage) clear() error {
	var errs []error
	if s.stopCapture != nil {
		errs = append(errs, s.stopCapture())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, p := range s.pods {
		errs = append(errs, p.Delete(ctx))
	}
	if s.mesh != nil {
		errs = append(errs, s.mesh.Stop(ctx))
	}
	return errors.Join(errs...)
}

// lastLine keeps the last whole line that is written to it.
type lastLine struct {
	mu         sync.Mutex // protects the rest
	rest, line []byte
}

func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	if end := bytes.LastIndexByte(l.rest, '\n'); end >= 0 {
		start := bytes.LastIndexByte(l.rest[:end], '\n') + 1
		l.line = bytes.Clone(l.rest[start:end])
		l.rest = bytes.Clone(l.rest[end+1:])
	}
	return len(b), nil
}

func (l *lastLine) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line
}

func copyLogs(lab *testnet.Lab, dir string) error {
	if dir == "" {
		return nil
	}
	return os.CopyFS(dir, os.DirFS(lab.LogDir()))
}
