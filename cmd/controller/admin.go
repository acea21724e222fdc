package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/kube"
)

// adminServer serves /healthz, /readyz, /metrics and /problems, and in a cluster /leader and /uninstall-state.
type adminServer struct {
	awaits   func() []string          // what of the source has not been read yet
	ignored  func() []compile.Problem // nil in a cluster
	election *kube.Election           // nil without a cluster
	registry *prometheus.Registry

	mu       sync.Mutex // protects what follows
	serving  *serving   // nil in a standby
	problems func() []compile.Problem
	waiting  error // for what this leader has not begun to serve yet
}

func newAdmin() *adminServer {
	a := &adminServer{registry: prometheus.NewRegistry()}
	a.register(a, admin.BuildInfo("controller"), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return a
}

func (a *adminServer) register(all ...prometheus.Collector) { a.registry.MustRegister(all...) }

// serve has the admin pages tell of a controller at work. It is called once.
func (a *adminServer) serve(s *serving, problems func() []compile.Problem) {
	a.register(s.server)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serving, a.problems = s, problems
}

// waits says for what a leader waits; nil: for nothing.
func (a *adminServer) waits(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = err
}

func (a *adminServer) now() (*serving, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.serving, a.waiting
}

func (a *adminServer) run(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

func (a *adminServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /problems", a.showProblems)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	if a.election != nil {
		mux.HandleFunc("GET /leader", a.leader)
		mux.HandleFunc("GET /uninstall-state", a.uninstallState)
	}
	return mux
}

// readyz is ready when the source has been read, and where this replica leads, when it has an issuer and a
// certificate that is valid. While keepers are waited for (warm-up) it is ready: they must find the way here.
func (a *adminServer) readyz(w http.ResponseWriter, _ *http.Request) {
	pending := a.awaits()
	s, waiting := a.now()
	leader, own := a.leads()
	switch {
	case waiting != nil:
		pending = append(pending, fmt.Sprintf("issuer (%v)", waiting))
	case own && s == nil:
		pending = append(pending, "the world")
	case s != nil:
		if _, err := s.own.Certificate(); err != nil {
			pending = append(pending, "certificate")
		}
	}
	if len(pending) > 0 {
		http.Error(w, "waiting for: "+strings.Join(pending, ", "), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
	switch {
	case a.election == nil:
	case own:
		fmt.Fprintln(w, "this replica leads")
	case leader != "":
		fmt.Fprintln(w, "standby; the leader is", leader)
	default:
		fmt.Fprintln(w, "standby; no leader is known")
	}
}

// leads is who leads, and whether that is this replica.
func (a *adminServer) leads() (leader string, own bool) {
	if a.election == nil {
		return "", false
	}
	return a.election.Leader()
}

// leader tells who leads.
func (a *adminServer) leader(w http.ResponseWriter, _ *http.Request) {
	name, own := a.election.Leader()
	writeJSON(w, struct {
		Leader string `json:"leader"`
		Leads  bool   `json:"leads"`
	}{name, own})
}

// uninstallState tells how far the mesh has been left.
func (a *adminServer) uninstallState(w http.ResponseWriter, _ *http.Request) {
	s, _ := a.now()
	if s == nil {
		http.Error(w, "this replica does not lead", http.StatusServiceUnavailable)
		return
	}
	state := kube.LeaveState{Closed: s.world.Closed(), Captured: map[string]int{}}
	_, state.InMesh, _, _, _ = s.world.Counts()
	captured := s.world.Captured()
	for _, node := range s.server.Keepers() {
		state.Captured[node] = captured[node]
	}
	writeJSON(w, state)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (a *adminServer) showProblems(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, p := range a.allProblems() {
		fmt.Fprintln(w, p)
	}
	if a.ignored != nil {
		for _, p := range a.ignored() {
			fmt.Fprintln(w, "note:", p)
		}
	}
	if a.election == nil {
		return
	}
	if leader, own := a.election.Leader(); !own {
		fmt.Fprintf(w, "note: this replica does not lead, and knows of no object's problems; the leader is %q\n", leader)
	}
}

// allProblems are those of objects, and of who may be believed.
func (a *adminServer) allProblems() []compile.Problem {
	a.mu.Lock()
	s, of, waiting := a.serving, a.problems, a.waiting
	a.mu.Unlock()
	var out []compile.Problem
	if waiting != nil {
		out = append(out, compile.Problem{Object: "issuer and roots", Err: waiting})
	}
	if s != nil {
		out = append(append(out, of()...), s.trust.problems()...)
	}
	return out
}
