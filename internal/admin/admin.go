// Package admin serves what operators ask a process: whether it is ready, and its metrics.
//
// Promises:
//  1. Ready is a set of named tasks: the process is ready when none is pending, and /readyz says which are.
//  2. Every request has a deadline; nothing here changes the process.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Version of the program, set by the linker.
var Version = "devel"

// Ready is the set of tasks that are pending. The zero value has none.
type Ready struct {
	mu      sync.Mutex // protects what follows
	pending map[string]bool
	watched map[string]func() bool
}

// Watch adds a task that may become pending again: whether it is finished is asked each time.
func (r *Ready) Watch(task string, done func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched == nil {
		r.watched = map[string]func() bool{}
	}
	r.watched[task] = done
}

// Await adds a task and returns the function that finishes it.
func (r *Ready) Await(task string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[string]bool{}
	}
	r.pending[task] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.pending, task)
	}
}

// Pending lists the tasks that are not finished.
func (r *Ready) Pending() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for n := range r.pending {
		names = append(names, n)
	}
	for n, done := range r.watched {
		if !done() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// Handler serves /healthz, /readyz and /metrics, and whatever more is given by path.
func Handler(ready *Ready, reg *prometheus.Registry, more map[string]http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if p := ready.Pending(); len(p) > 0 {
			http.Error(w, "waiting for "+strings.Join(p, ", "), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	for path, h := range more {
		mux.Handle("GET "+path, h)
	}
	return mux
}

// Serve serves the handler at an address until the context ends.
func Serve(ctx context.Context, addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for admin requests: %w", err)
	}
	srv := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin requests: %w", err)
	}
	return nil
}

// BuildInfo is the metric that tells the program's version.
func BuildInfo(component string) prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairlead_build_info",
		Help: "1, labelled with the component and its versions.",
	}, []string{"component", "version", "go_version"})
	g.WithLabelValues(component, Version, runtime.Version()).Set(1)
	return g
}
