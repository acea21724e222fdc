package kube

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/kube/kubetest"
)

func TestAWorldFollowsTheCluster(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("onlyLists=%v", lists), func(t *testing.T) {
			s := kubetest.New(t)
			if lists {
				s.OnlyLists()
			}
			s.Set(namespace("shop", "enabled"), account("shop", "web"), node("a", "172.16.0.1"),
				pod("shop", "web", "u-web", "a", "web", "10.0.0.1"))
			c := follow(t, s)
			eventually(t, "the pod is enrolled", func() bool { return c.enrolled("a", "u-web") })

			s.Set(`{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
				"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80, "targetPort": 8080}]}}`,
				`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
				"metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
				"ports": [{"name": "", "port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "a"}]}`)
			eventually(t, "service and endpoints", func() bool {
				_, _, services, endpoints, _ := c.world.Counts()
				return services == 1 && endpoints == 1
			})

			s.Merge("namespaces", "", "shop", `{"metadata": {"labels": {"fairlead.io/mesh": null}}}`)
			eventually(t, "the pod leaves", func() bool { return !c.enrolled("a", "u-web") })
			s.Merge("pods", "shop", "web", `{"metadata": {"labels": {"fairlead.io/mesh": "enabled"}}}`)
			eventually(t, "the pod is enrolled by its own label", func() bool { return c.enrolled("a", "u-web") })

			s.Delete("pods", "shop", "web")
			s.Delete("services", "shop", "web")
			s.Delete("endpointslices.discovery.k8s.io", "shop", "web-1")
			s.Delete("nodes", "", "a")
			eventually(t, "nothing is left", func() bool {
				pods, _, services, endpoints, nodes := c.world.Counts()
				return pods+services+endpoints+nodes == 0
			})
			if p := c.feed.Problems(); len(p) > 0 {
				t.Errorf("problems: %v", p)
			}
		})
	}
}

func TestAFinishedPodIsGone(t *testing.T) {
	s := kubetest.New(t)
	s.Set(namespace("shop", "enabled"), pod("shop", "job", "u-job", "a", "", "10.0.0.1"))
	c := follow(t, s)
	eventually(t, "the pod is known", func() bool { return c.known("u-job") })
	s.Merge("pods", "shop", "job", `{"status": {"phase": "Succeeded"}}`)
	eventually(t, "the pod is forgotten", func() bool { return !c.known("u-job") })
	s.Set(pod("shop", "next", "u-next", "a", "", "10.0.0.1"))
	eventually(t, "its address is another's", func() bool { return c.known("u-next") })
}

// TestOrderHeals: the kinds come in no order. A pod may be told before its namespace and its account.
func TestOrderHeals(t *testing.T) {
	s := kubetest.New(t)
	c := follow(t, s)
	eventually(t, "the empty cluster is read", func() bool { return len(c.source.Pending()) == 0 })
	s.Set(pod("shop", "web", "u-web", "a", "web", "10.0.0.1"))
	eventually(t, "the pod waits for its namespace", func() bool { return strings.Contains(c.text(), `unknown namespace "shop"`) })
	s.Set(namespace("shop", "enabled"))
	eventually(t, "the pod waits for its account", func() bool { return strings.Contains(c.text(), `unknown service account "web"`) })
	eventually(t, "what stands for long is logged", func() bool { return strings.Contains(c.log.String(), "unknown service account") })
	s.Set(account("shop", "web"))
	eventually(t, "the pod is enrolled", func() bool { return c.enrolled("a", "u-web") })
	if p := c.feed.Problems(); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
	if n := strings.Count(c.log.String(), "unknown service account"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, c.log)
	}
	// An address goes to the next pod although the old one is told to be gone later.
	s.Set(pod("shop", "next", "u-next", "a", "web", "10.0.0.1"))
	eventually(t, "the address is taken", func() bool { return strings.Contains(c.text(), "belongs to Pod shop/web already") })
	s.Delete("pods", "shop", "web")
	eventually(t, "the next pod is enrolled", func() bool { return c.enrolled("a", "u-next") })
	// The account goes before the pod, as when a namespace is deleted.
	s.Delete("serviceaccounts", "shop", "web")
	s.Delete("pods", "shop", "next")
	s.Delete("namespaces", "", "shop")
	eventually(t, "nothing is left", func() bool { return !c.known("u-next") && len(c.feed.Problems()) == 0 })
}

// TestAPodOfTheSameNameIsAnother: a StatefulSet's pod comes back under its name, and the watch may tell that as one
// change.
func TestAPodOfTheSameNameIsAnother(t *testing.T) {
	s := kubetest.New(t)
	s.Set(namespace("shop", "enabled"), pod("shop", "db-0", "u-1", "a", "", "10.0.0.1"))
	c := follow(t, s)
	eventually(t, "the first", func() bool { return c.enrolled("a", "u-1") })
	s.Set(pod("shop", "db-0", "u-2", "b", "", "10.0.0.2"))
	eventually(t, "the second", func() bool { return c.enrolled("b", "u-2") && !c.known("u-1") })
}

func TestABurstIsOneChange(t *testing.T) {
	s := kubetest.New(t)
	s.Set(namespace("shop", "enabled"))
	c := follow(t, s)
	eventually(t, "the cluster is read", func() bool { return len(c.source.Pending()) == 0 })
	const pods = 500
	before := c.world.Version()
	for i := range pods {
		s.Set(pod("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("u-%d", i), "a", "", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()))
	}
	eventually(t, "all pods", func() bool { n, _, _, _, _ := c.world.Counts(); return n == pods })
	if n := c.world.Version() - before; n > pods/5 {
		t.Errorf("%d changes of the world for %d pods", n, pods)
	}
}

func TestNothingIsToldBeforeEverythingIsRead(t *testing.T) {
	s := kubetest.New(t)
	s.Allow(func(r kubetest.Request) bool { return r.Resource != "nodes" })
	s.Set(namespace("shop", "enabled"), node("a", "172.16.0.1"), pod("shop", "web", "u-web", "a", "", "10.0.0.1"))
	c := follow(t, s)
	eventually(t, "only the nodes are missing", func() bool {
		p := c.source.Pending()
		return len(p) == 1 && strings.HasPrefix(p[0], "Node (") && strings.Contains(p[0], "forbidden")
	})
	if v, n := c.world.Version(), len(c.world.Delta(0, everything).Pods); n != 0 {
		t.Errorf("world of version %d has %d pods", v, n)
	}
	s.Allow(nil)
	eventually(t, "the pod is enrolled", func() bool { return c.enrolled("a", "u-web") })
	eventually(t, "the problem is over", func() bool { return len(c.feed.Problems()) == 0 })
	if n := strings.Count(c.log.String(), "cluster not read"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, c.log)
	}
}

func TestAnOutageKeepsWhatWasReadAndIsMadeUpFor(t *testing.T) {
	s := kubetest.New(t)
	s.Set(namespace("shop", "enabled"), pod("shop", "web", "u-web", "a", "", "10.0.0.1"), pod("shop", "old", "u-old", "a", "", "10.0.0.2"))
	c := follow(t, s)
	eventually(t, "enrolled", func() bool { return c.enrolled("a", "u-web") && c.enrolled("a", "u-old") })
	s.Down(true)
	s.Set(pod("shop", "new", "u-new", "a", "", "10.0.0.3"))
	s.Delete("pods", "shop", "old")
	eventually(t, "the outage is noticed", func() bool { return len(c.feed.Problems()) > 0 })
	if !c.enrolled("a", "u-web") || !c.enrolled("a", "u-old") {
		t.Error("an outage has taken pods out")
	}
	begin := time.Now()
	s.Down(false)
	eventually(t, "what has happened meanwhile", func() bool { return c.enrolled("a", "u-new") && !c.known("u-old") })
	if d := time.Since(begin); d > 12*time.Second {
		t.Errorf("made up for after %v", d)
	}
	eventually(t, "no problem is left", func() bool { return len(c.feed.Problems()) == 0 })
}

func TestAVersionThatIsTooOldIsReadAnew(t *testing.T) {
	s := kubetest.New(t)
	s.OnlyLists()
	s.Set(namespace("shop", "enabled"))
	c := follow(t, s)
	eventually(t, "the cluster is read", func() bool { return len(c.source.Pending()) == 0 })
	gone := true
	s.Fail(func(r kubetest.Request) int {
		if gone && r.Verb == "watch" && r.Resource == "pods" {
			gone = false
			return http.StatusGone
		}
		return 0
	})
	s.Down(true)
	s.Set(pod("shop", "web", "u-web", "a", "", "10.0.0.1"))
	s.Down(false)
	eventually(t, "the pod is enrolled", func() bool { return c.enrolled("a", "u-web") })
}

func TestTheSignToLeave(t *testing.T) {
	s := kubetest.New(t)
	s.Set(namespace("shop", "enabled"), pod("shop", "web", "u-web", "a", "", "10.0.0.1"))
	c := follow(t, s)
	eventually(t, "enrolled", func() bool { return c.enrolled("a", "u-web") })
	c.world.SetCaptured("a", c.world.Version(), map[string][]netip.Addr{"u-web": addrs("10.0.0.1")})
	eventually(t, "in the mesh", func() bool { _, n, _, _, _ := c.world.Counts(); return n == 1 })

	sign := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "fairlead-system", "name": "fairlead-leave"}}`
	s.Set(sign)
	eventually(t, "announced as outside", func() bool { _, n, _, _, _ := c.world.Counts(); return n == 0 })
	if !c.enrolled("a", "u-web") {
		t.Error("released before everybody was told")
	}
	if p := fmt.Sprint(c.feed.Problems()); !strings.Contains(p, "ConfigMap fairlead-leave: while it exists") {
		t.Errorf("problems: %s", p)
	}
	for uid := range c.world.Leaving() {
		c.world.Release(uid)
	}
	if c.enrolled("a", "u-web") {
		t.Error("not released")
	}
	namespaces, _ := c.world.Namespaces()
	if enrolled, known := namespaces["shop"]; enrolled || !known {
		t.Errorf("namespaces: %v", namespaces)
	}
	s.Set(pod("shop", "new", "u-new", "a", "", "10.0.0.2"))
	eventually(t, "the new pod is known", func() bool { return c.known("u-new") })
	if c.enrolled("a", "u-new") {
		t.Error("a new pod was enrolled")
	}
	s.Delete("configmaps", ns, LeaveConfigMap)
	eventually(t, "both are enrolled", func() bool { return c.enrolled("a", "u-web") && c.enrolled("a", "u-new") })

	// A leader that starts while the sign stands never enrols anybody.
	s.Set(sign)
	d := follow(t, s)
	eventually(t, "the pods are known", func() bool { return d.known("u-web") && d.known("u-new") })
	if d.enrolled("a", "u-web") || !d.world.Closed() {
		t.Error("enrolled in spite of the sign")
	}
}
