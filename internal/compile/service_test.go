package compile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

func TestServices(t *testing.T) {
	w := load(t, nsPlain, `apiVersion: v1
kind: Service
metadata: {name: full, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::96"]
  externalIPs: [192.0.2.1]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  internalTrafficPolicy: Local
  trafficDistribution: PreferClose
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080, appProtocol: kubernetes.io/h2c}
  - {name: http-ish, port: 81, nodePort: 30081}
  - {name: dns, port: 53, protocol: UDP}
status: {loadBalancer: {ingress: [{ip: 192.0.2.2}, {hostname: lb.example}]}}`, `apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, sessionAffinity: ClientIP, ports: [{port: 5432, appProtocol: postgresql}]}`, `apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop}
spec: {type: ExternalName, externalName: db.example.com}`, `apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/zone: z1}}
status: {addresses: [{type: InternalIP, address: 172.16.0.1}, {type: Hostname, address: a}]}`)
	if p := w.Problems(); len(p) != 0 {
		t.Fatal(p)
	}
	s := world(w)
	name := func(n string) mesh.Name { return mesh.Name{Namespace: "shop", Name: n} }
	want := map[string]*mesh.Service{
		"full": {
			Name: name("full"), Addrs: addrs("10.96.0.1", "fd00::96", "192.0.2.1", "192.0.2.2"), Affinity: 60, LocalOnly: true, Distribution: mesh.PreferSameZone,
			Ports: []mesh.Port{{Name: "http", Number: 80, NodePort: 30080, Protocol: mesh.HTTP2}, {Name: "http-ish", Number: 81, NodePort: 30081}},
		},
		"headless": {Name: name("headless"), Headless: true, Affinity: 10800, Ports: []mesh.Port{{Number: 5432, Protocol: mesh.TCP}}},
		"outside":  {Name: name("outside"), ExternalName: "db.example.com"},
	}
	for n, svc := range want {
		if diff := cmp.Diff(svc, s.Service(name(n)), cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("%s: %s", n, diff)
		}
	}
	if n := s.Node("a"); n == nil || n.Zone != "z1" || len(n.Addrs) != 1 {
		t.Errorf("node %+v", n)
	}
}

func TestEndpoints(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	slice := func(name, service, family, ports, endpoints string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name + ", namespace: shop, labels: {kubernetes.io/service-name: " + service +
			"}}\naddressType: " + family + "\nports: [" + ports + "]\nendpoints: [" + endpoints + "]"
	}
	apply(t, w, f, "e.yaml",
		slice("s1", "web", "IPv4", "{name: http, port: 80}, {name: udp, port: 53, protocol: UDP}",
			"{addresses: [10.0.0.2], conditions: {ready: true}, nodeName: a, zone: z1, hints: {forZones: [{name: z1}, {name: z2}]}}, {addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}"),
		slice("s2", "web", "IPv6", "{name: http, port: 80}", "{addresses: ['fd00::1']}"),
		slice("s3", "web", "IPv4", "{name: http, port: 80}", "{addresses: [10.0.0.1], conditions: {ready: true}}, {addresses: [10.0.0.3], conditions: {ready: false}}"))
	if p := w.Problems(); len(p) != 0 {
		t.Fatal(p)
	}
	want := `endpoints shop/web [{http [` +
		`{10.0.0.1:80   [] true true false} {10.0.0.2:80 a z1 [z1 z2] true true false} {10.0.0.3:80   [] false false false} {[fd00::1]:80   [] true true false}]}]`
	if diff := cmp.Diff(want, text(w)); diff != "" {
		t.Error(diff)
	}
	// A slice that moves to another service is taken from the first.
	apply(t, w, f, "e.yaml", slice("s1", "api", "IPv4", "{name: http, port: 80}", "{addresses: [10.0.0.9]}"))
	if diff := cmp.Diff("endpoints shop/api [{http [{10.0.0.9:80   [] true true false}]}]", text(w)); diff != "" {
		t.Error(diff)
	}
	w.Update(f.drop("e.yaml"))
	if text(w) != "" || w.Endpoints(mesh.Name{Namespace: "shop", Name: "api"}) != nil {
		t.Errorf("left over: %s", text(w))
	}
}
