// Package fleettest is a cluster with Fairlead and the vote application in it, for the tests of what looks at one. The
// API server is remotetest's; what the proxies tell are the answers of real ones, which a test of internal/node keeps
// true. Every test breaks what it is about.
package fleettest

import (
	"embed"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/kube/remote/remotetest"
	"fairlead.io/fairlead/internal/node/debug"
)

// Noon is the time by every clock of the cluster.
var Noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// The pods of Fairlead.
const (
	Home       = "fairlead-system"
	Node1      = "fairlead-node-h7wq2"
	Node2      = "fairlead-node-p9x4k"
	Controller = "fairlead-controller-7c5d9f8b6d-4xkzq"
)

//go:embed vote.yaml vote
var files embed.FS

// Cluster is the cluster. Its fields are set before it is asked.
type Cluster struct {
	*remotetest.Server
	*Authority
	// Instead is what programs answer in place of what they would, by "pod path". An answer that begins with
	// "503 " has that status.
	Instead map[string]string
	// Dates are clocks of programs that are wrong.
	Dates map[string]time.Time
}

// Empty starts a cluster that has nothing.
func Empty(t testing.TB) *Cluster {
	c := &Cluster{Server: remotetest.New(t), Authority: &Authority{}, Instead: map[string]string{}, Dates: map[string]time.Time{}}
	c.Date = func() time.Time { return Noon }
	return c
}

// New starts one that is well. Certificates are of the kinds that the authority has when Fill is called.
func New(t testing.TB) *Cluster {
	c := Empty(t)
	if err := c.Fill(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Fill puts the objects, the certificates and the programs there.
func (c *Cluster) Fill() error {
	text, err := files.ReadFile("vote.yaml")
	if err != nil {
		return err
	}
	if err := c.Add(text); err != nil {
		return err
	}
	for node, pod := range map[string]string{"n1": Node1, "n2": Node2} {
		c.Pod(Home, pod, fleet.ProxyPort, &program{c: c, name: pod, node: node})
	}
	c.Pod(Home, Controller, fleet.ControllerPort, &program{c: c, name: Controller})
	return c.Sign()
}

// Sign makes certificates of the authority's kinds, and puts issuer and roots there.
func (c *Cluster) Sign() error {
	text, err := c.objects()
	if err != nil {
		return err
	}
	return c.Add(text)
}

// Fleet connects to the cluster.
func (c *Cluster) Fleet(t testing.TB) *fleet.Fleet {
	t.Helper()
	config, err := c.Kubeconfig(t.TempDir(), "vote")
	if err != nil {
		t.Fatal(err)
	}
	client, err := remote.Connect(remote.Options{Kubeconfig: config})
	if err != nil {
		t.Fatal(err)
	}
	return &fleet.Fleet{Client: client, Home: Home, Clock: fleet.Clock{Now: func() time.Time { return Noon }}}
}

// program answers for one of ours.
type program struct {
	c    *Cluster
	name string
	node string // "" for the controller

	mu    sync.Mutex
	asked map[string]int
}

// ServeHTTP is http.Handler.
func (p *program) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	date := Noon
	if wrong, ok := p.c.Dates[p.name]; ok {
		date = wrong
	}
	w.Header().Set("Date", date.Format(http.TimeFormat))
	if text, ok := p.c.Instead[p.name+" "+r.URL.Path]; ok {
		if rest, ok := strings.CutPrefix(text, "503 "); ok {
			http.Error(w, rest, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, text)
		return
	}
	if p.node == "" {
		p.controller(w, r)
		return
	}
	name := path.Base(r.URL.Path)
	switch r.URL.Path {
	case debug.IdentitiesPath:
		text, err := p.c.identities(p.node)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		fmt.Fprint(w, text)
		return
	case debug.EndpointsPath:
		_, service, _ := strings.Cut(r.FormValue("service"), "/")
		name = "endpoints-" + service
	case debug.ExplainPath:
		name = explainFile(r.URL.Query())
	case "/metrics", debug.PodsPath, debug.EdgesPath, debug.RoutesPath:
		name += fmt.Sprintf(".%d", p.times(r.URL.Path))
	}
	text, err := files.ReadFile(path.Join("vote", p.node, name))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(text)
}

// times is 0 and 1 in turn: every second answer is the one after the traffic.
func (p *program) times(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = map[string]int{}
	}
	p.asked[path]++
	return (p.asked[path] - 1) % 2
}

func explainFile(q url.Values) string {
	if q.Get("dst") != "" {
		return "explain-" + strings.TrimPrefix(q.Get("pod"), "uid-") + "-" + map[string]string{"10.96.0.12:8082": "ballot"}[q.Get("dst")]
	}
	return "explain-" + strings.TrimPrefix(q.Get("pod"), "uid-") + "-from-" + map[string]string{"10.244.1.3": "front"}[q.Get("src")]
}

func (p *program) controller(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/readyz":
		fmt.Fprintln(w, "ready")
	case "/problems":
	case "/metrics":
		fmt.Fprint(w, p.c.ControllerMetrics(1, p.c.Issuer.NotAfter))
	default:
		http.NotFound(w, r)
	}
}

// ControllerMetrics are those of a controller of this version that has an issuer.
func (c *Cluster) ControllerMetrics(warm int, issuerEnds time.Time) string {
	return fmt.Sprintf("# TYPE fairlead_build_info gauge\nfairlead_build_info{component=\"controller\",version=\"devel\"} 1\n"+
		"# TYPE fairlead_controller_warm gauge\nfairlead_controller_warm %d\n"+
		"# TYPE fairlead_controller_issuer_expiry_timestamp_seconds gauge\nfairlead_controller_issuer_expiry_timestamp_seconds %d\n", warm, issuerEnds.Unix())
}
