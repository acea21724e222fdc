package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/testnet"
)

// Two namespaces with the same pods: one in the mesh, one without.
const (
	meshed  = "meshed"
	plainly = "plainly"
)

// troupe is the pods of a namespace: client on the first node, origin on the second, and another origin beside the client.
type troupe struct{ client, origin, local *testnet.Pod }

// stage is the lab with all that is measured in it.
type stage struct {
	o       options
	dir     string // files of our own
	lab     *testnet.Lab
	mesh    *testnet.Mesh
	meshed  troupe
	plain   troupe
	pair    string // the ClusterIP of the meshed origin
	nearby  string // that of the meshed one beside the client
	single  string // that of the plain one beside the client
	places  places
	origins []*testnet.Process
	servers map[*testnet.Pod]*testnet.Process // nginx of each origin
	pairs   []running                         // HAProxy first
	near    []*testnet.Process                // HAProxy's B beside the client
	forward *testnet.Process
	copies  []*testnet.Process
	idle    []*testnet.Pod
}

// onStage makes a lab with everything in it, does something there, and leaves nothing of it.
func onStage(ctx context.Context, o options, do func(*stage) error) error {
	return onStageAt(ctx, o, apart(), do)
}

// onStageAt is onStage, on those processors.
func onStageAt(ctx context.Context, o options, at places, do func(*stage) error) (err error) {
	dir, err := os.MkdirTemp("", "flbench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab, err := testnet.New(testnet.Config{Nodes: 2, Plugins: filepath.Join(o.bin, "cni"), CNIPlugin: filepath.Join(o.bin, "cni-plugin")})
	if err != nil {
		return fmt.Errorf("make the nodes: %w", err)
	}
	s := &stage{o: o, dir: dir, lab: lab, places: at, servers: map[*testnet.Pod]*testnet.Process{}}
	defer func() { err = errors.Join(err, s.copyLogs(), s.clear(), lab.Close()) }()
	if err := s.set(ctx); err != nil {
		return err
	}
	return do(s)
}

// copyLogs keeps the programs' logs, those of each lab in a directory of its own.
func (s *stage) copyLogs() error {
	if s.o.keepLogs == "" {
		return nil
	}
	return os.CopyFS(filepath.Join(s.o.keepLogs, filepath.Base(s.lab.Dir())), os.DirFS(s.lab.LogDir()))
}

// set starts everything. What this process starts runs where it runs itself, so it goes from one processor to the other.
func (s *stage) set(ctx context.Context) error {
	if err := s.writeBodies(); err != nil {
		return err
	}
	if err := s.lab.LabelNamespace(meshed, map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		return err
	}
	if err := pin(os.Getpid(), s.places.proxies); err != nil {
		return err
	}
	mesh, err := s.lab.StartMesh(ctx, testnet.MeshConfig{Bin: s.o.bin})
	if err != nil {
		return fmt.Errorf("start the mesh: %w", err)
	}
	s.mesh = mesh
	if err := pin(mesh.Controller.PID(), s.places.load); err != nil {
		return err
	}
	if err := s.addPods(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.startPeers(ctx), s.startForward(ctx), s.startCopies(ctx)); err != nil {
		return err
	}
	if err := pin(os.Getpid(), s.places.load); err != nil {
		return err
	}
	for _, p := range []*testnet.Pod{s.meshed.origin, s.meshed.local, s.plain.origin, s.plain.local} {
		if err := s.startOrigin(ctx, p); err != nil {
			return err
		}
	}
	if s.o.rules {
		if err := s.lab.SetManifest("rules", rules(meshed, "origin")+rules(meshed, "local")); err != nil {
			return err
		}
	}
	if err := s.waitMesh(ctx); err != nil || !s.o.rules {
		return err
	}
	return s.waitRules(ctx)
}

func (s *stage) addPods(ctx context.Context) (err error) {
	if s.pair, err = s.addService(meshed, "origin"); err != nil {
		return err
	}
	if s.nearby, err = s.addService(meshed, "local"); err != nil {
		return err
	}
	if s.single, err = s.addService(plainly, "local"); err != nil {
		return err
	}
	for _, p := range []struct {
		pod             **testnet.Pod
		namespace, name string
		node            int
	}{
		{&s.meshed.client, meshed, "client", 0}, {&s.meshed.origin, meshed, "origin", 1}, {&s.meshed.local, meshed, "local", 0},
		{&s.plain.client, plainly, "client", 0}, {&s.plain.origin, plainly, "origin", 1}, {&s.plain.local, plainly, "local", 0},
	} {
		*p.pod, err = s.lab.Node(p.node).AddPod(ctx, testnet.PodSpec{Namespace: p.namespace, Name: p.name, Workload: p.name,
			Account: p.name, Labels: map[string]string{"app": p.name}, Retry: 10 * time.Second})
		if err != nil {
			return err
		}
	}
	return nil
}

// addService makes the Service before the pods of a name and returns its address.
func (s *stage) addService(namespace, name string) (string, error) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}}}
	for _, port := range []int32{originH1, originH2, originGRPC, originBulk} {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", port), Port: port})
	}
	made, err := s.lab.AddService(service)
	if err != nil {
		return "", err
	}
	return made.Spec.ClusterIP, nil
}

// startForward starts the bare forwarder, before the client as HAProxy's A is.
func (s *stage) startForward(ctx context.Context) error {
	listen := fmt.Sprintf("127.0.0.1:%d", forwardTCP)
	p, err := s.plain.client.Start(testnet.Command{Path: s.o.own("forward"), Log: "forward.log",
		Args: []string{"--listen=" + listen, fmt.Sprintf("--to=%s:%d", s.plain.local.Addr(4), originH1)}})
	if err != nil {
		return fmt.Errorf("start the forwarder: %w", err)
	}
	s.forward = p
	return waitListening(ctx, s.plain.client, forwardTCP)
}

// waitMesh waits until requests go by mutual TLS: a node learns of a pod a moment after it is there.
func (s *stage) waitMesh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	few := offer{name: "few", clients: 1, streams: 1, requests: 10}
	for {
		var err error
		for _, k := range kinds(1) {
			if k.long {
				continue
			}
			c := s.contenders(k)[0]
			counted := s.counting(ctx, k, c)
			_, lerr := s.load(ctx, c.client, k, few, c.target)
			if lerr == nil {
				lerr = counted(few.requests)
			}
			err = errors.Join(err, lerr)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until requests go through the mesh: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// clear ends everything and takes the product out of the kernel.
func (s *stage) clear() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, p := range append(s.idle, s.meshed.client, s.meshed.origin, s.meshed.local, s.plain.client, s.plain.origin, s.plain.local) {
		if p != nil {
			errs = append(errs, p.Delete(ctx))
		}
	}
	if s.mesh != nil {
		errs = append(errs, s.mesh.Stop(ctx))
	}
	return errors.Join(errs...)
}
