package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"fairlead.io/fairlead/internal/testnet"
)

// buildPrograms builds the tests' own programs.
func buildPrograms(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "./cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests' programs: %w: %s", err, out)
	}
	return nil
}

// shared is the lab that tests of programs have in common; each adds pods of its own. It lives until the last test has ended.
var shared struct {
	sync.Mutex // protects what follows
	mesh       *testnet.Mesh
	probers    []*testnet.Pod // one on each node: see announced
	err        error
}

func sharedMesh(t testing.TB) *testnet.Mesh {
	t.Helper()
	root(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.mesh == nil && shared.err == nil {
		shared.mesh, shared.probers, shared.err = startShared()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	m := shared.mesh
	t.Cleanup(func() {
		if t.Failed() {
			saveLogs(t, m.Lab)
		}
	})
	return m
}

func startShared() (*testnet.Mesh, []*testnet.Pod, error) {
	lab, err := newLab()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m, err := lab.StartMesh(ctx, testnet.MeshConfig{Bin: bin, KubeletCgroup: true})
	var probers []*testnet.Pod
	for _, n := range lab.Nodes() {
		if err == nil {
			var p *testnet.Pod
			p, err = n.AddPod(ctx, testnet.PodSpec{Namespace: "app", Name: "prober-" + n.Name, Retry: 10 * time.Second})
			probers = append(probers, p)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, lab.DumpLogs(os.Stderr), lab.Close())
	}
	return m, probers, nil
}

// joined adds a pod to the shared lab and waits until every node speaks TLS to it. A pod is captured from its start on,
// but the nodes learn of it a moment later, and until then connections to it are plain.
func joined(t testing.TB, m *testnet.Mesh, n *testnet.Node, spec testnet.PodSpec) *testnet.Pod {
	t.Helper()
	if spec.Workload == "" {
		spec.Workload = spec.Name // else a label would name it in metrics
	}
	p := mustAddPod(t, n, spec)
	l := listen(t, p, ":65000")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer l.Close()
	for _, prober := range shared.probers {
		eventually(t, 10*time.Second, prober.Node.Name+" speaks TLS to "+p.Name, func() error {
			before := trafficOf(t, m, prober, p)
			c, err := prober.Dial(t.Context(), "tcp", netip.AddrPortFrom(p.Addr(4), 65000).String())
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Write([]byte("?"))
			_, _ = c.Read(make([]byte, 1))
			if after := trafficOf(t, m, prober, p); after.out["mtls"] == before.out["mtls"] {
				return fmt.Errorf("out %v, in %v", after.out, after.in)
			}
			return nil
		})
	}
	return p
}

// listen listens in the pod until the test ends at the latest.
func listen(t testing.TB, p *testnet.Pod, addr string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	err := p.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// closeShared ends the shared lab. Whatever it left behind would be found by the next test run.
func closeShared() error {
	shared.Lock()
	defer shared.Unlock()
	m := shared.mesh
	if m == nil {
		return nil
	}
	shared.mesh = nil
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(m.Stop(ctx), m.Lab.Close())
}

// needs skips the test when a program is missing, unless skipping is forbidden. It returns the programs' paths.
func needs(t testing.TB, programs ...string) []string {
	t.Helper()
	var paths []string
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + p)
		}
		if err != nil && os.Getenv("CI") == "true" {
			t.Fatalf("%v (run test/packages)", err)
		}
		if err != nil {
			t.Skipf("%v (run test/packages)", err)
		}
		paths = append(paths, path)
	}
	return paths
}

// workDir makes a directory that users without privileges can reach, unlike the test's own.
func workDir(t testing.TB, uid, gid int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "flprog")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// metrics are the node's, by name.
func metrics(t testing.TB, n *testnet.MeshNode) map[string]*dto.MetricFamily {
	t.Helper()
	text, err := n.Admin(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// labels select series of a metric.
type labels map[string]string

// sum adds up the counters of a name that bear the labels.
func sum(families map[string]*dto.MetricFamily, name string, want labels) float64 {
	total := 0.0
	for _, m := range families[name].GetMetric() {
		found := 0
		for _, l := range m.GetLabel() {
			if v, ok := want[l.GetName()]; ok && v == l.GetValue() {
				found++
			}
		}
		if found == len(want) {
			total += m.GetCounter().GetValue()
		}
	}
	return total
}

// traffic is what the two proxies between two pods have counted, connections and requests, by the label tls.
type traffic struct{ out, in map[string]float64 }

var securities = []string{"none", "mtls", "not_in_mesh", "self"}

func trafficOf(t testing.TB, m *testnet.Mesh, src, dst *testnet.Pod) traffic {
	t.Helper()
	count := func(p *testnet.Pod, direction string) map[string]float64 {
		families := metrics(t, meshNode(m, p))
		counts := map[string]float64{}
		for _, s := range securities {
			for _, name := range []string{"fairlead_requests_total", "fairlead_tcp_connections_opened_total"} {
				counts[s] += sum(families, name, labels{"direction": direction, "tls": s, "src_namespace": src.Namespace, "src_workload": src.Name,
					"dst_namespace": dst.Namespace, "dst_workload": dst.Name})
			}
		}
		return counts
	}
	return traffic{out: count(src, "outbound"), in: count(dst, "inbound")}
}

func meshNode(m *testnet.Mesh, p *testnet.Pod) *testnet.MeshNode {
	for _, n := range m.Nodes {
		if n.Node == p.Node {
			return n
		}
	}
	return nil
}

// viaMesh checks that what f does goes from src to dst through both proxies, with mutual TLS between them and nothing in the
// clear, as they count it themselves.
func viaMesh(t testing.TB, m *testnet.Mesh, src, dst *testnet.Pod, f func()) {
	t.Helper()
	before := trafficOf(t, m, src, dst)
	f()
	if t.Failed() {
		return
	}
	eventually(t, 5*time.Second, "counted by both proxies", func() error {
		after := trafficOf(t, m, src, dst)
		for where, counts := range map[string][2]map[string]float64{"outbound": {before.out, after.out}, "inbound": {before.in, after.in}} {
			for _, s := range []string{"none", "not_in_mesh"} {
				if counts[1][s] > counts[0][s] {
					t.Fatalf("%s: counted without TLS: %q: %v, was %v", where, s, counts[1], counts[0])
				}
			}
			if counts[1]["mtls"] <= counts[0]["mtls"] {
				return fmt.Errorf("%s: nothing with mtls: %v", where, counts[1])
			}
		}
		return nil
	})
}

// webPod is a pod that runs the tests' web server, named after it.
func webPod(t testing.TB, m *testnet.Mesh, n *testnet.Node, spec testnet.PodSpec, args ...string) *testnet.Pod {
	t.Helper()
	p := joined(t, m, n, spec)
	mustStart(t, p, testnet.Command{Path: filepath.Join(bin, "web"), Args: append([]string{"--name=" + spec.Name}, args...), Log: spec.Name + ".log"})
	if len(args) == 0 {
		listening(t, p, "127.0.0.1:8080")
	}
	return p
}

// listening waits until something in the pod listens at the address, which is one of the loopback's.
func listening(t testing.TB, p *testnet.Pod, addr string) {
	t.Helper()
	eventually(t, 20*time.Second, p.Name+" listens at "+addr, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := p.Dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// unique gives names of pods that no other test has.
func unique(t testing.TB, name string) string {
	id := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.TrimPrefix(t.Name(), "Test")))
	return id[:min(30, len(id))] + "-" + name
}

// addService adds the service and returns its ClusterIPs with its first port, IPv4 and IPv6. Pods that are joined
// afterwards find it known to every node: until a node knows of a service, its address is a foreign one, and plain.
func addService(t testing.TB, m *testnet.Mesh, s *corev1.Service) []netip.AddrPort {
	t.Helper()
	made := mustAddService(t, m, s)
	var addrs []netip.AddrPort
	for _, ip := range made.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			addrs = append(addrs, netip.AddrPortFrom(a, uint16(made.Spec.Ports[0].Port)))
		}
	}
	return addrs
}

// mustAddService adds a service that goes with the test.
func mustAddService(t testing.TB, m *testnet.Mesh, s *corev1.Service) *corev1.Service {
	t.Helper()
	made, err := m.Lab.AddService(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Lab.DeleteService(made.Namespace, made.Name); err != nil {
			t.Error(err)
		}
	})
	return made
}
