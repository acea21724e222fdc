package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/test/system/cmd/load/tally"
)

// The ports of "load serve".
const (
	webPort  = 8080
	echoPort = 9000
)

// load is a "load run" at work.
type load struct {
	name string
	proc *testnet.Process
	out  *bytes.Buffer
}

func loadCommand(args ...string) testnet.Command {
	return testnet.Command{Path: filepath.Join(bin, "load"), Args: args}
}

// startLoad calls addr from the pod until stop.
func startLoad(t testing.TB, p *testnet.Pod, mode, addr string, args ...string) *load {
	t.Helper()
	l := &load{name: mode + " from " + p.Name + " to " + addr, out: new(bytes.Buffer)}
	c := loadCommand(append([]string{"run", "-mode=" + mode, "-to=" + addr}, args...)...)
	c.Stdout, c.Log = l.out, "load-"+p.Name+".log"
	l.proc = mustStart(t, p, c)
	return l
}

// stop ends the load and tells how it went.
func (l *load) stop(t testing.TB) tally.Report {
	t.Helper()
	if err := l.proc.Signal(syscall.SIGTERM); err != nil {
		t.Logf("%s: %v", l.name, err) // it has ended by itself
	}
	return l.wait(t)
}

// wait waits for the end of a load with -for.
func (l *load) wait(t testing.TB) tally.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	if err := l.proc.Wait(ctx); err != nil {
		t.Fatalf("%s: %v", l.name, err)
	}
	var r tally.Report
	if err := json.Unmarshal(l.out.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v: %q", l.name, err, l.out.Bytes())
	}
	t.Logf("%s: %v", l.name, r)
	return r
}

// mustFlawless wants many good answers and no bad one.
func mustFlawless(t testing.TB, l *load, r tally.Report, atLeast int) {
	t.Helper()
	if r.OK < atLeast || r.Bad() > 0 {
		t.Errorf("%s: want %d good answers or more and no bad one: %v", l.name, atLeast, r)
	}
}

// mustServe starts a server with the pod's name, and waits until it listens.
func mustServe(t testing.TB, p *testnet.Pod, args ...string) *testnet.Process {
	t.Helper()
	c := loadCommand(append([]string{"serve"}, args...)...)
	c.Log = "serve-" + p.Name + ".log"
	proc := mustStart(t, p, c)
	for _, port := range []int{webPort, echoPort} {
		eventually(t, 10*time.Second, "server of "+p.Name, func() error {
			conn, err := p.Dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	return proc
}

// pair is a client on one node and a server on the other, both in the mesh, with a service before the server.
type pair struct {
	client, server *testnet.Pod
	web, echo      string // the service's addresses
}

// newPair makes the pods "client" on the first node and "server" on the second.
func newPair(t testing.TB, m *testnet.Mesh) pair {
	t.Helper()
	p := pair{client: mustAddPod(t, m.Nodes[0].Node, testnet.PodSpec{Name: "client"}),
		server: mustAddPod(t, m.Nodes[1].Node, testnet.PodSpec{Name: "server", Account: "server"})}
	p.web, p.echo = mustAddLoadService(t, m.Lab, "app", "server")
	mustServe(t, p.server)
	mustReach(t, p.client, p.web, "server")
	return p
}

// mustAddLoadService makes the service of the pods app=name, with both ports of "load serve".
func mustAddLoadService(t testing.TB, l *testnet.Lab, namespace, name string) (web, echo string) {
	t.Helper()
	s, err := l.AddService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{
			{Name: "web", Port: webPort, TargetPort: intstr.FromInt(webPort)}, {Name: "echo", Port: echoPort, TargetPort: intstr.FromInt(echoPort)}}}})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", s.Spec.ClusterIP, webPort), fmt.Sprintf("%s:%d", s.Spec.ClusterIP, echoPort)
}

// ask makes one HTTP request on a connection of its own.
func ask(t testing.TB, p *testnet.Pod, addr string, args ...string) tally.Report {
	t.Helper()
	return askMode(t, p, "h1new", addr, args...)
}

func askMode(t testing.TB, p *testnet.Pod, mode, addr string, args ...string) tally.Report {
	t.Helper()
	out := mustRun(t, p, loadCommand(append([]string{"run", "-mode=" + mode, "-to=" + addr, "-workers=1", "-calls=1", "-rate=1000"}, args...)...))
	var r tally.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("ask %s: %v: %q", addr, err, out)
	}
	return r
}

// mustReach waits until the address is answered by that server.
func mustReach(t testing.TB, p *testnet.Pod, addr, server string) {
	t.Helper()
	eventually(t, 15*time.Second, p.Name+" reaches "+addr, func() error {
		if r := ask(t, p, addr); r.Servers[server] == 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

func webAddr(p *testnet.Pod) string {
	return netip.AddrPortFrom(p.Addr(4), webPort).String()
}

func echoAddr(p *testnet.Pod) string {
	return netip.AddrPortFrom(p.Addr(4), echoPort).String()
}

// metric is the sum of a node's series of that name with those labels.
func metric(t testing.TB, n *testnet.MeshNode, name string, labels ...string) float64 {
	t.Helper()
	b, err := n.Admin(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `(\{.*\})? (\S+)$`)
	sum := 0.0
	for _, found := range line.FindAllStringSubmatch(string(b), -1) {
		if v, err := strconv.ParseFloat(found[2], 64); err == nil && hasLabels(found[1], labels) {
			sum += v
		}
	}
	return sum
}

// hasLabels tells whether every label, such as result="ok", is there.
func hasLabels(text string, labels []string) bool {
	for _, l := range labels {
		if !strings.Contains(text, l) {
			return false
		}
	}
	return true
}

// pause lets a fault last: it is the time that is tested, not a wait for something.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

// mustReady waits until the node's proxy is ready.
func mustReady(t testing.TB, n *testnet.MeshNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}
