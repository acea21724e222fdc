package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// onlyMesh has the receiving node refuse whoever does not come over mutual TLS. A caller that gets through is in the mesh.
var onlyMesh = map[string]string{"fairlead.io/default-policy": "authenticated"}

// testTraffic: callers and servers, in the mesh and outside, in every way that Kubernetes has.
func testTraffic(t *testing.T) {
	in, out := namespace(t, "e2e-in", true), namespace(t, "e2e-out", false)
	n1, n2 := lab.nodes[0], lab.nodes[1]
	mustServe(t, server{namespace: in, name: "open", replicas: 2, service: ", type: NodePort"})
	mustServe(t, server{namespace: in, name: "strict", replicas: 1, node: n2, annotations: onlyMesh, service: ", type: NodePort"})
	mustServe(t, server{namespace: out, name: "plain", replicas: 1, node: n2})
	nodePort := lab.kubectl(t, "-n", in, "get", "service", "open", "-o", `jsonpath={.spec.ports[?(@.name=="web")].nodePort}`)
	strictPort := lab.kubectl(t, "-n", in, "get", "service", "strict", "-o", `jsonpath={.spec.ports[?(@.name=="web")].nodePort}`)
	strictPod := podsOf(t, in, "app=strict")[0]

	for _, c := range []struct {
		name, from, mode, to string
		refused              bool
	}{
		{name: "mesh-h1", from: in, mode: "h1", to: "strict:80"},
		{name: "mesh-h2", from: in, mode: "h2", to: "strict:80"},
		{name: "mesh-tcp", from: in, mode: "tcp", to: "strict:9000"},
		{name: "mesh-upgrade", from: in, mode: "upgrade", to: "strict:80"},
		{name: "mesh-pod-address", from: in, mode: "h1", to: strictPod[1] + ":8080"},
		{name: "mesh-node-port", from: in, mode: "h1", to: nodeAddress(t, n1) + ":" + strictPort},
		{name: "mesh-to-outside-h1", from: in, mode: "h1", to: "plain.e2e-out:80"},
		{name: "mesh-to-outside-tcp", from: in, mode: "tcp", to: "plain.e2e-out:9000"},
		{name: "outside-to-mesh-h1", from: out, mode: "h1", to: "open.e2e-in:80"},
		{name: "outside-to-mesh-h2", from: out, mode: "h2", to: "open.e2e-in:80"},
		{name: "outside-to-mesh-tcp", from: out, mode: "tcp", to: "open.e2e-in:9000"},
		{name: "outside-to-node-port", from: out, mode: "h1", to: nodeAddress(t, n1) + ":" + nodePort},
		{name: "outside-to-strict-h1", from: out, mode: "h1new", to: "strict.e2e-in:80", refused: true},
		{name: "outside-to-strict-tcp", from: out, mode: "tcp", to: "strict.e2e-in:9000", refused: true},
		{name: "outside-to-strict-pod", from: out, mode: "h1new", to: strictPod[1] + ":8080", refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := call(t, c.from, c.name, n1, c.mode, c.to)
			if c.refused {
				mustFail(t, c.name, r)
				return
			}
			mustFlawless(t, c.name, r, 20)
		})
	}
	t.Run("node-to-node-port", func(t *testing.T) {
		out := lab.node(t, n1, fmt.Sprintf("for i in 1 2 3 4 5; do curl -sS -m 5 -o /dev/null -w '%%{http_code} ' http://%s:%s/; done", nodeAddress(t, n2), nodePort))
		if strings.TrimSpace(out) != "200 200 200 200 200" {
			t.Errorf("curl says %q", out)
		}
	})
	t.Run("balanced", func(t *testing.T) {
		r := startLoad(t, in, "balanced", n1, "-mode=h2", "-workers=1", "-rate=50", "-calls=100", "-for=30s", "-to=open:80").wait(t, 40*time.Second)
		if len(r.Servers) != 2 {
			t.Errorf("requests over one HTTP/2 connection went to %v, want both replicas", r.Servers)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		mustGoStraight(t, in, "strict:9000", netip.AddrPortFrom(netip.MustParseAddr(strictPod[1]), 9000))
	})
}

// mustGoStraight wants the packets of a new client of "to" go from its pod's address to the server's address and the app's own
// port, of one family, as NetworkPolicy is written for.
func mustGoStraight(t *testing.T, ns, to string, server netip.AddrPort) {
	t.Helper()
	const calls = 25
	seen := lab.watch(t, 18*time.Second, "no such text")
	l := startLoad(t, ns, "straight", lab.nodes[0], "-mode=tcp", "-workers=1", "-rate=10", fmt.Sprint("-calls=", calls), "-for=20s", "-to="+to)
	client := addressOf(t, ns, "straight", server.Addr().Is4())
	mustFlawless(t, to, l.wait(t, 60*time.Second), calls)
	opened := 0
	for node, s := range seen() {
		for _, o := range s.Opened {
			src, dst := netip.MustParseAddrPort(o.Src), netip.MustParseAddrPort(o.Dst)
			if src.Addr() != client || dst.Port() == 53 {
				continue
			}
			opened++
			if dst != server {
				t.Errorf("%s at %s: a connection from %s to %s, want one to %s", node, o.Where, src, dst, server)
			}
		}
	}
	if opened < calls {
		t.Errorf("%d connections were seen on the wire", opened)
	}
}

// addressOf is a pod's address of a family.
func addressOf(t testing.TB, ns, pod string, v4 bool) netip.Addr {
	t.Helper()
	all := lab.kubectl(t, "-n", ns, "get", "pod", pod, "-o", "jsonpath={.status.podIPs[*].ip}")
	for text := range strings.FieldsSeq(all) {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() == v4 {
			return a
		}
	}
	t.Fatalf("pod %s has the addresses %q", pod, all)
	return netip.Addr{}
}

// testHeadless: a StatefulSet behind a headless service, and a port of the host.
func testHeadless(t *testing.T) {
	in, out := namespace(t, "e2e-set", true), namespace(t, "e2e-set-out", false)
	lab.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: set, namespace: %[1]s}
spec: {clusterIP: None, selector: {app: set}, ports: [{name: web, port: 8080}, {name: echo, port: 9000}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: set, namespace: %[1]s}
spec:
  serviceName: set
  replicas: 2
  selector: {matchLabels: {app: set}}
  template:
    metadata: {labels: {app: set}, annotations: %[2]s}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: serve, image: %[3]q, command: [/load, serve], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: hostport, namespace: %[1]s, labels: {app: hostport}}
spec:
  nodeName: %[4]s
  terminationGracePeriodSeconds: 1
  containers: [{name: serve, image: %[3]q, command: [/load, serve], ports: [{containerPort: 8080, hostPort: 18080}], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
`, in, flow(onlyMesh), image, lab.nodes[1]))
	lab.kubectl(t, "-n", in, "rollout", "status", "statefulset/set", "--timeout=90s")
	lab.kubectl(t, "-n", in, "wait", "--for=condition=Ready", "pod/hostport", "--timeout=60s")
	r := call(t, in, "one", lab.nodes[0], "h1", "set-1.set:8080")
	mustFlawless(t, "a pod of a StatefulSet by its name", r, 20)
	if r.Servers["set-1"] != r.OK {
		t.Errorf("set-1 was called, but %v answered", r.Servers)
	}
	mustFlawless(t, "a headless service", call(t, in, "headless", lab.nodes[0], "h1new", "set:8080"), 20)
	mustFlawless(t, "a headless service, TCP", call(t, in, "headless-tcp", lab.nodes[0], "tcp", "set:9000"), 20)
	mustFail(t, "a headless service from outside", call(t, out, "outside", lab.nodes[0], "h1new", "set.e2e-set:8080"))
	host := nodeAddress(t, lab.nodes[1]) + ":18080"
	mustFlawless(t, "a port of the host, from outside", call(t, out, "host-outside", lab.nodes[0], "h1", host), 20)
	mustFlawless(t, "a port of the host, from the mesh", call(t, in, "host-mesh", lab.nodes[0], "h1", host), 20)
}

// testIngress: an ingress controller whose pods are enrolled balances request by request, over its kept-alive connections.
func testIngress(t *testing.T) {
	in, out := namespace(t, "e2e-ingress", true), namespace(t, "e2e-ingress-out", false)
	mustServe(t, server{namespace: in, name: "backend", replicas: 3, annotations: onlyMesh})
	lab.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: nginx, namespace: %[1]s}
data:
  nginx.conf: |
    worker_processes 1; daemon off; pid /tmp/nginx.pid; error_log stderr;
    events { worker_connections 256; }
    http {
      access_log off;
      client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
      upstream backend { server backend.%[1]s.svc.cluster.local:80; keepalive 1; }
      server { listen 8080; location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; } }
    }
---
apiVersion: v1
kind: Service
metadata: {name: ingress, namespace: %[1]s}
spec: {selector: {app: ingress}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: ingress}}
  template:
    metadata: {labels: {app: ingress}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 65532}
      volumes: [{name: conf, configMap: {name: nginx}}]
      containers:
        - name: nginx
          image: fairlead-e2e-nginx:dev
          command: [/usr/sbin/nginx, -e, stderr, -c, /conf/nginx.conf]
          volumeMounts: [{name: conf, mountPath: /conf}]
          readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
`, in))
	lab.kubectl(t, "-n", in, "rollout", "status", "deploy/ingress", "--timeout=90s")
	try := 0 // kube-proxy of the user's node may not have heard of the service yet
	eventually(t, 30*time.Second, "the ingress, from outside", func() error {
		try++
		if r := call(t, out, fmt.Sprint("first-", try), lab.nodes[0], "h1new", "ingress.e2e-ingress:80", "-calls=1", "-workers=1"); r.OK == 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	// A replica that was slow once, while it started, is passed over for some time.
	seen, round := map[string]bool{}, 0
	eventually(t, time.Minute, "all three replicas behind the one connection that the ingress keeps", func() error {
		round++
		r := startLoad(t, out, fmt.Sprint("user-", round), lab.nodes[0], "-mode=h1", "-workers=1", "-rate=50", "-calls=100", "-for=30s", "-to=ingress.e2e-ingress:80").wait(t, 60*time.Second)
		mustFlawless(t, "through the ingress", r, 100)
		if len(r.Servers) < 2 {
			t.Errorf("all requests went to %v", r.Servers)
		}
		for name := range r.Servers {
			seen[name] = true
		}
		if len(seen) != 3 {
			return fmt.Errorf("requests went to %v", seen)
		}
		return nil
	})
}
