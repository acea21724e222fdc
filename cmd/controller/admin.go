package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
)

// admin serves /readyz, /metrics and /problems.
type admin struct {
	world  *compile.World
	dir    *compile.Dir
	server *control.Server
	trust  *trust
	own    identity.Source
}

func (a *admin) run(ctx context.Context, l net.Listener) error {
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

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /problems", a.problems)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}

// readyz is ready when nodes are served, from a directory that was read, with a certificate that is valid. While
// keepers are waited for (warm-up) it is ready: they must find the way here.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.dir.Loaded() {
		http.Error(w, "waiting for: source", http.StatusServiceUnavailable)
		return
	}
	if _, err := a.own.Certificate(); err != nil {
		http.Error(w, "waiting for: certificate", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (a *admin) problems(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, p := range a.dir.Problems() {
		fmt.Fprintln(w, p)
	}
	for _, p := range a.dir.Ignored() {
		fmt.Fprintln(w, "note:", p)
	}
}

func (a *admin) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(a.server, a, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

var (
	podsDesc      = desc("pods", "Pods in the address table.")
	inMeshDesc    = desc("pods_in_mesh", "Pods announced as in the mesh.")
	servicesDesc  = desc("services", "Services known.")
	endpointsDesc = desc("endpoints_objects", "Services with endpoints.")
	nodesDesc     = desc("nodes", "Nodes known.")
	problemsDesc  = desc("problems", "Objects that are not served as they stand.")
	versionDesc   = desc("world_version", "Version of the world; it grows with every change.")
	issuerDesc    = desc("issuer_expiry_timestamp_seconds", "When the issuer's certificate ends, in seconds since the epoch.")
	warmDesc      = desc("warm", "1 when proxies are told the world, 0 while keepers are waited for.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_controller_"+name, help, nil, nil)
}

// Describe implements prometheus.Collector.
func (a *admin) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{podsDesc, inMeshDesc, servicesDesc, endpointsDesc, nodesDesc, problemsDesc, versionDesc, issuerDesc, warmDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (a *admin) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	pods, inMesh, services, endpoints, nodes := a.world.Counts()
	gauge(podsDesc, float64(pods))
	gauge(inMeshDesc, float64(inMesh))
	gauge(servicesDesc, float64(services))
	gauge(endpointsDesc, float64(endpoints))
	gauge(nodesDesc, float64(nodes))
	gauge(problemsDesc, float64(len(a.dir.Problems())))
	gauge(versionDesc, float64(a.world.Version()))
	gauge(issuerDesc, float64(a.trust.ca.NotAfter().Unix()))
	warm := 0.0
	if a.server.Warm() {
		warm = 1
	}
	gauge(warmDesc, warm)
}
