package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func samplesOf(contender string, cpus ...int) []sample {
	var list []sample
	for _, us := range cpus {
		list = append(list, sample{contender: contender, kib: 2048, steady: steady{cpu: time.Duration(us) * time.Microsecond, user: 0.25, rps: 1000, p50: 300 * time.Microsecond}})
	}
	return list
}

func TestReport(t *testing.T) {
	r := &report{}
	r.add(kind{name: "pair_h1"}, offer{name: "low"}, append(samplesOf("fairlead", 30, 10, 20), samplesOf("haproxy", 50, 40, 30, 20)...))
	r.add(kind{name: "pair_h1"}, offer{name: "rate"}, append(samplesOf("fairlead", 10), samplesOf("haproxy", 30)...))
	r.add(kind{name: "pair_h1"}, offer{name: "connect"}, append(samplesOf("fairlead", 200), samplesOf("haproxy", 100)...))
	one := append(append(samplesOf("fairlead", 12), samplesOf("tcp-forwarder", 10)...), samplesOf("haproxy-tcp", 16)...)
	r.add(kind{name: "one_node"}, offer{name: "saturated"}, one)
	r.add(kind{name: "one_node"}, offer{name: "low"}, one)
	for _, v := range []float64{300, 100, 200} {
		r.note("bulk_cpu_per_mib", "fairlead", "µs", v)
		r.note("bulk_cpu_per_mib", "tls-copy", "µs", 2*v)
	}
	r.note("idle_node_mib", "fairlead", "MiB", 51.26)
	r.note("p99_added_1000_rps", "fairlead", "µs", 30)
	r.note("p99_added_1000_rps", "haproxy", "µs", 60)
	line, err := r.line()
	want := `{"bulk_cpu_per_mib":200,"bulk_cpu_per_mib_tls_copy":400,"bulk_vs_tls_copy":0.5,"idle_node_mib":51.3,"new_connection":2,"one_node_vs_haproxy_tcp":0.75,"one_node_vs_haproxy_tcp_low":0.75,"one_node_vs_tcp":1.2,"one_node_vs_tcp_low":1.2,"p99_added_1000_rps":30,"p99_added_1000_rps_haproxy":60,"p99_added_vs_haproxy":0.5,"pair_h1":{"low":0.571,"rate":0.333}}`
	if err != nil || string(line) != want {
		t.Errorf("%s, %v, want %s", line, err, want)
	}
	var table strings.Builder
	if err := r.table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pair_h1 low haproxy 35.0 20.0 50.0 25 % 0.57 1000 300 - 2.0", "pair_h1 low fairlead 20.0 10.0 30.0 25 % 1000 300 - 2.0", "one_node saturated tcp-forwarder 10.0 10.0 10.0 25 % 1.20 1000 300 - 2.0", "bulk_cpu_per_mib tls-copy 400.0 200.0 600.0 µs"} {
		if !strings.Contains(strings.Join(strings.Fields(table.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
}

// A case that was run for one contender alone has no ratio, and is not in the line.
func TestReportWithoutTheOther(t *testing.T) {
	r := &report{}
	r.add(kind{name: "pair_h2"}, offer{name: "low"}, samplesOf("fairlead", 1))
	if line, err := r.line(); err != nil || string(line) != "{}" {
		t.Errorf("%s, %v", line, err)
	}
}

// What the last line of a quick run has to say.
func TestTheLineHasItsKeys(t *testing.T) {
	r := &report{}
	for _, k := range kinds(1) {
		for _, l := range k.loads {
			samples := samplesOf(fairlead, 10)
			for _, name := range []string{haproxy, "tcp-forwarder"} {
				if (k.way == onePass) == (name == "tcp-forwarder") {
					samples = append(samples, samplesOf(name, 20)...)
				}
			}
			r.add(k, l, samples)
		}
	}
	for name, contenders := range map[string][]string{"p99_added_1000_rps": {fairlead, haproxy}, "bulk_cpu_per_mib": {fairlead, tlsCopy}, "idle_conn_kib": {fairlead}, "idle_node_mib": {fairlead}} {
		for _, c := range contenders {
			r.note(name, c, "µs", 1)
		}
	}
	text, err := r.line()
	if err != nil {
		t.Fatal(err)
	}
	type loads struct{ Saturated, Rate, Low *float64 }
	var line struct {
		H1      loads    `json:"pair_h1"`
		H2      loads    `json:"pair_h2"`
		GRPC    loads    `json:"pair_grpc"`
		OneNode *float64 `json:"one_node_vs_tcp"`
		P99     *float64 `json:"p99_added_vs_haproxy"`
		Bulk    *float64 `json:"bulk_vs_tls_copy"`
		Conn    *float64 `json:"idle_conn_kib"`
		Node    *float64 `json:"idle_node_mib"`
	}
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatal(err)
	}
	for i, v := range []*float64{line.H1.Saturated, line.H1.Rate, line.H1.Low, line.H2.Saturated, line.H2.Rate, line.H2.Low, line.GRPC.Saturated, line.GRPC.Rate, line.GRPC.Low,
		line.OneNode, line.P99, line.Bulk, line.Conn, line.Node} {
		if v == nil || *v <= 0 {
			t.Errorf("key %d is not in %s", i, text)
		}
	}
}

// Where HAProxy seems to add nothing there is no ratio, and the key says so.
func TestNoRatioToNothing(t *testing.T) {
	r := &report{}
	r.note("p99_added_1000_rps", "fairlead", "µs", 30)
	r.note("p99_added_1000_rps", "haproxy", "µs", -5)
	if line, err := r.line(); err != nil || !strings.Contains(string(line), `"p99_added_vs_haproxy":null`) {
		t.Errorf("%s, %v", line, err)
	}
}

func TestParseResident(t *testing.T) {
	if got, err := parseResident("Name:\tx\nVmRSS:\t   51234 kB\nThreads:\t1\n"); err != nil || got != 51234 {
		t.Errorf("%d, %v", got, err)
	}
	if got, err := parseResident("Name:\tx\n"); err == nil {
		t.Errorf("%d of a process that has no memory", got)
	}
}
