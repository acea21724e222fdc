package main

import (
	"github.com/prometheus/client_golang/prometheus"
)

var (
	podsDesc      = desc("pods", "Pods in the address table.")
	inMeshDesc    = desc("pods_in_mesh", "Pods announced as in the mesh.")
	servicesDesc  = desc("services", "Services known.")
	endpointsDesc = desc("endpoints_objects", "Services with endpoints.")
	nodesDesc     = desc("nodes", "Nodes known.")
	problemsDesc  = desc("problems", "Objects that are not served as they stand.")
	versionDesc   = desc("world_version", "Version of the world; it grows with every change.")
	issuerDesc    = desc("issuer_expiry_timestamp_seconds", "When the issuer's certificate ends, in seconds since the epoch.")
	trustDesc     = desc("trust_problems", "Steps in taking issuer, roots or tokens that have failed.")
	warmDesc      = desc("warm", "1 when proxies are told the world, 0 while keepers are waited for.")
	leaderDesc    = desc("leader", "1 if this replica serves the nodes.")
	closedDesc    = desc("closed", "1 while everybody is to leave the mesh.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fairlead_controller_"+name, help, nil, nil)
}

// Describe implements prometheus.Collector.
func (a *adminServer) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		podsDesc, inMeshDesc, servicesDesc, endpointsDesc, nodesDesc, problemsDesc, versionDesc, issuerDesc, trustDesc,
		warmDesc, leaderDesc, closedDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A standby knows no world, so it has none of its metrics: a sum over the
// replicas is that of the leader.
func (a *adminServer) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	s, waiting := a.now()
	gauge(leaderDesc, number(s != nil))
	if s == nil {
		gauge(trustDesc, number(waiting != nil))
		return
	}
	pods, inMesh, services, endpoints, nodes := s.world.Counts()
	trusts := len(s.trust.problems())
	gauge(podsDesc, float64(pods))
	gauge(inMeshDesc, float64(inMesh))
	gauge(servicesDesc, float64(services))
	gauge(endpointsDesc, float64(endpoints))
	gauge(nodesDesc, float64(nodes))
	gauge(problemsDesc, float64(len(a.allProblems())-trusts))
	gauge(trustDesc, float64(trusts))
	gauge(versionDesc, float64(s.world.Version()))
	gauge(issuerDesc, float64(s.trust.ca.NotAfter().Unix()))
	gauge(warmDesc, number(s.server.Warm()))
	gauge(closedDesc, number(s.world.Closed()))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
