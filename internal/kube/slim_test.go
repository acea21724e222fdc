package kube

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead.io/fairlead/internal/compile"
)

// rich are objects with everything that is compiled, and much that is not.
const rich = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {fairlead.io/mesh: enabled}, annotations: {fairlead.io/default-policy: authenticated}}, spec: {finalizers: [kubernetes]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: odd, labels: {fairlead.io/mesh: perhaps}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}, secrets: [{name: s}]}
---
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/zone: z1, beta.kubernetes.io/os: linux}}
spec: {podCIDR: 10.0.0.0/24, taints: [{key: fairlead.io/not-ready, effect: NoSchedule}]}
status:
  addresses: [{type: InternalIP, address: 172.16.0.1}, {type: ExternalIP, address: 203.0.113.1}, {type: Hostname, address: a}]
  images: [{names: [big], sizeBytes: 1}]
  nodeInfo: {kernelVersion: "6.18"}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8f7b9c4d-abcde
  namespace: shop
  uid: u-web
  labels: {app: web, pod-template-hash: 5d8f7b9c4d}
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "long", fairlead.io/default-policy: allow}
  ownerReferences:
  - {apiVersion: v1, kind: Other, name: x, uid: u0}
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f7b9c4d, uid: u1, controller: true}
  managedFields: [{manager: kubelet, operation: Update, apiVersion: v1}]
spec:
  nodeName: a
  serviceAccountName: web
  terminationGracePeriodSeconds: 7
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: side, image: i, restartPolicy: Always, startupProbe: {tcpSocket: {port: 7001}}}
  containers:
  - name: c
    image: i
    env: [{name: SECRET, value: hunter2}]
    command: [serve]
    ports: [{name: http, containerPort: 8080, hostPort: 80}]
    livenessProbe: {httpGet: {port: http, path: /healthz}, periodSeconds: 3}
    readinessProbe: {grpc: {port: 9000}}
  - {name: d, image: i, livenessProbe: {exec: {command: [x]}}}
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]
  containerStatuses: [{name: c, image: i, imageID: sha256:long, ready: true, restartCount: 0}]
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, uid: u-agent, labels: {fairlead.io/mesh: enabled}}
spec: {nodeName: a, hostNetwork: true, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 172.16.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: lost, namespace: shop, uid: u-lost}
spec: {nodeName: a, serviceAccountName: nobody, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {cloud/x: "y"}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9, "fd01::9"]
  externalIPs: [198.51.100.7]
  selector: {app: web}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  internalTrafficPolicy: Local
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080, appProtocol: kubernetes.io/h2c}, {name: dns, port: 53, protocol: UDP}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.8}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None, ports: [{port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: ext, namespace: shop}, spec: {type: ExternalName, externalName: example.com}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1], nodeName: a, zone: z1, conditions: {ready: true}, targetRef: {kind: Pod, name: web}, hints: {forZones: [{name: z1}]}}
- {addresses: [10.0.0.7], conditions: {ready: false, serving: true, terminating: true}}
`

func objects(t *testing.T, change func(any) any) []compile.Object {
	t.Helper()
	var out []compile.Object
	for i, text := range strings.Split(rich, "\n---\n") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatal(err)
		}
		o := map[string]metav1.Object{
			"Namespace": &corev1.Namespace{}, "ServiceAccount": &corev1.ServiceAccount{}, "Node": &corev1.Node{},
			"Pod": &corev1.Pod{}, "Service": &corev1.Service{}, "EndpointSlice": &discoveryv1.EndpointSlice{},
		}[head.Kind]
		if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		out = append(out, compile.Object{
			Key:    compile.Key{Kind: compile.Kind(head.Kind), Namespace: o.GetNamespace(), Name: o.GetName()},
			Origin: compile.Origin{Line: i + 1}, // the same order both times
			Value:  change(o),
		})
	}
	return out
}

// TestSlimLeavesWhatIsCompiled compiles the same objects as they are and slimmed. A field that the compiler begins to
// use belongs into the objects above.
func TestSlimLeavesWhatIsCompiled(t *testing.T) {
	whole, slimmed := compile.NewWorld(compile.Config{}), compile.NewWorld(compile.Config{})
	whole.Update(objects(t, func(o any) any { return o }), nil)
	slimmed.Update(objects(t, slim), nil)
	a, b := worldText(whole), worldText(slimmed)
	if a != b {
		t.Errorf("whole:\n%s\n\nslim:\n%s", a, b)
	}
	for _, want := range []string{
		`"ProbePorts":[7001,8080,9000]`, `"Workload":"web"`, `"Drain":7000000000`, "fd00::1", `"NodePort":30080`, `"Affinity":60`,
		`"Zone":"z1"`, `"nobody"`, "198.51.100.8", "198.51.100.7", `"LocalOnly":true`, `"Headless":true`, "example.com",
	} {
		if !strings.Contains(a, want) {
			t.Errorf("the objects do not bring about %s:\n%s", want, a)
		}
	}
}

func TestSlimLeavesNothingElse(t *testing.T) {
	for _, o := range objects(t, slim) {
		text, err := json.Marshal(o.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, waste := range []string{"hunter2", "sha256", "managedFields", "last-applied", "sizeBytes", "volumes", "targetRef", "healthz", "command", "u0", "cloud/x"} {
			if strings.Contains(string(text), waste) {
				t.Errorf("%s still has %s: %s", o.Key, waste, text)
			}
		}
	}
	s := slim(&corev1.Secret{Data: map[string][]byte{"tls.crt": []byte("c"), "other": []byte("o")}}).(*corev1.Secret)
	if string(s.Data["tls.crt"]) != "c" || s.Data["other"] != nil {
		t.Errorf("secret: %v", s.Data)
	}
	again := slim(s).(*corev1.Secret)
	if string(again.Data["tls.crt"]) != "c" {
		t.Error("slimmed twice, something is lost")
	}
}
