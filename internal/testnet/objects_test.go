package testnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// readObjects reads the directory as the controller does: kind/namespace/name -> object.
func readObjects(t testing.TB, lab *Lab) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(lab.KubeDir(), "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var o struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		objects[o.Kind+"/"+o.Namespace+"/"+o.Name] = b
	}
	if all, _ := os.ReadDir(lab.KubeDir()); len(all) != len(files) || len(objects) != len(files) {
		t.Errorf("%d files, %d objects in %d entries", len(files), len(objects), len(all))
	}
	return objects
}

func mustDecode[T any](t testing.TB, objects map[string][]byte, key string) T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict(objects[key], &o); err != nil || objects[key] == nil {
		t.Fatalf("%s: %v in %q", key, err, objects[key])
	}
	return o
}

func TestObjectsAreWrittenAsKubernetesHasThem(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 1})
	if err := lab.LabelNamespace("shop", map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		t.Fatal(err)
	}
	grpc := "grpc"
	s := Service("shop", "web", 80, 8080)
	s.Spec.Ports[0].AppProtocol = &grpc
	if _, err := lab.AddService(s); err != nil {
		t.Fatal(err)
	}
	p := mustPod(t, lab.Node(0), PodSpec{Namespace: "shop", Name: "web-1", Account: "seller", Workload: "web", Labels: map[string]string{"app": "web"}, NotReady: true})

	objects := readObjects(t, lab)
	if ns := mustDecode[corev1.Namespace](t, objects, "Namespace//shop"); ns.Labels["fairlead.io/mesh"] != "enabled" {
		t.Errorf("labels %v", ns.Labels)
	}
	if n := mustDecode[corev1.Node](t, objects, "Node//n1"); n.Spec.PodCIDR != "10.244.1.0/24" || len(n.Status.Addresses) != 2 {
		t.Errorf("node %+v", n)
	}
	mustDecode[corev1.ServiceAccount](t, objects, "ServiceAccount/shop/seller")
	pod := mustDecode[corev1.Pod](t, objects, "Pod/shop/web-1")
	if pod.Spec.NodeName != "n1" || pod.Spec.ServiceAccountName != "seller" || string(pod.UID) != p.UID || pod.Status.Phase != corev1.PodRunning ||
		!strings.HasPrefix(pod.OwnerReferences[0].Name, "web-") || pod.OwnerReferences[0].Kind != "ReplicaSet" {
		t.Errorf("pod %+v", pod)
	}
	if d := cmp.Diff([]corev1.PodIP{{IP: p.Addrs[0].String()}, {IP: p.Addrs[1].String()}}, pod.Status.PodIPs); d != "" {
		t.Error(d)
	}
	slice := func() discoveryv1.EndpointSlice {
		return mustDecode[discoveryv1.EndpointSlice](t, readObjects(t, lab), "EndpointSlice/shop/web-v6")
	}
	if s := slice(); len(s.Endpoints) != 1 || s.Endpoints[0].Addresses[0] != p.Addr(6).String() || *s.Endpoints[0].Conditions.Ready ||
		*s.Ports[0].AppProtocol != "grpc" || *s.Ports[0].Port != 8080 || s.Labels[discoveryv1.LabelServiceName] != "web" {
		t.Errorf("slice %+v", s)
	}
	if err := p.SetReady(true); err != nil {
		t.Fatal(err)
	}
	if s := slice(); !*s.Endpoints[0].Conditions.Ready {
		t.Error("not ready")
	}
	if err := p.Terminate(); err != nil {
		t.Fatal(err)
	}
	if c := slice().Endpoints[0].Conditions; *c.Ready || !*c.Serving || !*c.Terminating {
		t.Errorf("conditions %+v", c)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if objects := readObjects(t, lab); objects["Pod/shop/web-1"] != nil || len(slice().Endpoints) != 0 {
		t.Error("the pod's object outlived it")
	}
	if err := lab.DeleteService("shop", "web"); err != nil {
		t.Fatal(err)
	}
	if objects := readObjects(t, lab); objects["Service/shop/web"] != nil || objects["EndpointSlice/shop/web-v4"] != nil {
		t.Error("the service's objects outlived it")
	}
}

func TestKindsOfServices(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 3})
	client := mustPod(t, lab.Node(0), PodSpec{Name: "client"})
	other := mustPod(t, lab.Node(2), PodSpec{Name: "other"})
	for i, n := range lab.Nodes() {
		name := "db-" + string(rune('0'+i))
		p := mustPod(t, n, PodSpec{Name: name, Labels: map[string]string{"app": "db"}, Edit: func(o *corev1.Pod) {
			o.Spec.Hostname, o.Spec.Subdomain = name, "headless"
		}})
		mustServe(t, p, ":5432")
	}
	add := func(name string, edit func(*corev1.Service)) *corev1.Service {
		s := Service("default", name, 5432, 5432)
		s.Spec.Selector = map[string]string{"app": "db"}
		edit(s)
		s, err := lab.AddService(s)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	add("headless", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone })
	add("plain", func(*corev1.Service) {})
	add("alias", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "plain.default.svc.cluster.local"}
	})
	local := corev1.ServiceInternalTrafficPolicyLocal
	add("near", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local })
	sticky := add("sticky", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	outside := add("outside", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"198.51.100.7"} })

	from := " " + client.Addr(4).String()
	mustHear(t, client, "alias:5432", "db-0"+from, "db-1"+from, "db-2"+from)
	mustHear(t, client, outside.Spec.ExternalIPs[0]+":5432", "db-0"+from, "db-1"+from, "db-2"+from)
	mustAnswer(t, client, "db-2.headless.default.svc.cluster.local:5432", "db-2"+from)
	for range 5 {
		mustAnswer(t, client, "near:5432", "db-0"+from)
		mustAnswer(t, other, "near:5432", "db-2 "+other.Addr(4).String())
	}
	first, err := answer(t, client, sticky.Spec.ClusterIP+":5432")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mustAnswer(t, client, sticky.Spec.ClusterIP+":5432", first)
	}
	again := add("plain", func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 })
	if ip, err := netip.ParseAddr(again.Spec.ClusterIP); err != nil || again.Spec.ClusterIP == sticky.Spec.ClusterIP {
		t.Errorf("address %s, %v", ip, err)
	}
	mustHear(t, client, "plain:80", "db-0"+from)
}

func TestAPodOnItsNodesNetwork(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 1})
	p := mustPod(t, lab.Node(0), PodSpec{Name: "agent", HostNetwork: true})
	mustServe(t, p, ":9100")
	mustAnswer(t, lab.Outside(), lab.Node(0).Addrs[0].String()+":9100", "n1 "+lab.Outside().Addrs[0].String())
	if pod := mustDecode[corev1.Pod](t, readObjects(t, lab), "Pod/default/agent"); !pod.Spec.HostNetwork || pod.Status.PodIP != lab.Node(0).Addrs[0].String() {
		t.Errorf("pod %+v", pod)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustServe(t, lab.Node(0), ":9100") // the port is free again
}
