package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/kube/kubetest"
	"fairlead.io/fairlead/internal/mesh"
)

var web = mesh.Name{Namespace: "shop", Name: "web"}

func service(name, addr string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": %q},
		"spec": {"clusterIP": %q, "clusterIPs": [%[2]q], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}`, name, addr)
}

// route is an HTTPRoute of the Service web to a backend.
func route(name, backend string) string {
	return fmt.Sprintf(`{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"namespace": "shop", "name": %q,
		"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "long"}, "managedFields": [{"manager": "m"}]},
		"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": [{"backendRefs": [{"name": %q, "port": 80}]}]}}`, name, backend)
}

func (c *cluster) backendOf(s mesh.Name) string {
	r := c.world.Routes(s)
	if r == nil || len(r.Ports) == 0 || len(r.Ports[0].Rules) == 0 {
		return ""
	}
	return r.Ports[0].Rules[0].Backends[0].Service.Name
}

// TestAKindThatComesAndGoes: without the definitions there are no routes, and everything else is as with them.
func TestAKindThatComesAndGoes(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("onlyLists=%v", lists), func(t *testing.T) {
			s := kubetest.New(t)
			if lists {
				s.OnlyLists()
			}
			s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), service("v2", "10.96.0.2"))
			c := follow(t, s)
			eventually(t, "the cluster is read without them", func() bool { _, _, n, _, _ := c.world.Counts(); return n == 2 })
			if p := c.feed.Problems(); len(p) > 0 {
				t.Errorf("problems: %v", p)
			}
			for range 2 {
				s.Define(gatewayGroup, "v1")
				s.Set(route("r", "v2"))
				eventually(t, "the route", func() bool { return c.backendOf(web) == "v2" })
				s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}`)
				eventually(t, "the change of the route", func() bool { return c.backendOf(web) == "web" })
				s.Define(gatewayGroup, "")
				eventually(t, "there are no routes any more", func() bool { return c.world.Routes(web) == nil })
			}
			s.Set(service("web", "10.96.0.3"))
			eventually(t, "the rest goes on", func() bool { return strings.Contains(c.text(), "10.96.0.3") })
		})
	}
}

func TestAnOlderVersionOfTheDefinitions(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1beta1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), service("v2", "10.96.0.2"), route("r", "v2"))
	c := follow(t, s)
	eventually(t, "the route", func() bool { return c.backendOf(web) == "v2" })
}

// TestWhatIsKeptOfARoute: what is kept is what is compiled, and the status.
func TestWhatIsKeptOfARoute(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), service("v2", "10.96.0.2"), route("r", "v2"))
	c := follow(t, s)
	eventually(t, "the route", func() bool { return c.backendOf(web) == "v2" })
	kept := c.source.object(compile.Key{Kind: compile.HTTPRoute, Namespace: "shop", Name: "r"}).(*gatewayv1.HTTPRoute)
	if len(kept.Annotations)+len(kept.ManagedFields) > 0 || kept.Generation != 1 || kept.UID == "" {
		t.Errorf("kept: %+v", kept.ObjectMeta)
	}
}

// TestARouteThatCannotBeRead is a problem of its own, and its last good version stays.
func TestARouteThatCannotBeRead(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), service("v2", "10.96.0.2"), route("r", "v2"))
	c := follow(t, s)
	eventually(t, "the route", func() bool { return c.backendOf(web) == "v2" })
	s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"spec": {"rules": "none"}}`)
	eventually(t, "the problem", func() bool {
		return slices.ContainsFunc(c.feed.Problems(), func(p compile.Problem) bool {
			return p.Object == "HTTPRoute shop/r" && strings.Contains(p.Err.Error(), "read object")
		})
	})
	if c.backendOf(web) != "v2" {
		t.Error("the last good version does not stand")
	}
	s.Set(route("r", "web"))
	eventually(t, "it is mended", func() bool { return c.backendOf(web) == "web" && len(c.feed.Problems()) == 0 })
}

// parents are those of a route's status, as "controller Service: Type=Status/Reason@generation".
func (c *cluster) parents(name string) []string {
	var r gatewayv1.HTTPRoute
	text := c.Text("httproutes."+gatewayGroup, "shop", name)
	if json.Unmarshal([]byte(text), &r) != nil {
		return nil
	}
	var out []string
	for _, p := range r.Status.Parents {
		line := fmt.Sprintf("%s %s:", p.ControllerName, p.ParentRef.Name)
		for _, x := range p.Conditions {
			line += fmt.Sprintf(" %s=%s/%s@%d", x.Type, x.Status, x.Reason, x.ObservedGeneration)
		}
		out = append(out, line)
	}
	return out
}

func (c *cluster) writing(t testing.TB, now func() time.Time) {
	t.Helper()
	log, _ := newLog()
	w := NewStatuses(StatusesConfig{Client: customClient(t, c.Server), Source: c.source, World: c.world, Pace: time.Millisecond, Retry: 10 * time.Millisecond, Now: now, Log: log})
	background(t, w.Run)
}

func (c *cluster) has(name string, want ...string) func() bool {
	return func() bool { return slices.Equal(c.parents(name), want) }
}

func updates(s *kubetest.Server) (n int) {
	for _, q := range s.Requests() {
		if q.Verb == "update" && strings.HasSuffix(q.Of(), "/status") {
			n++
		}
	}
	return n
}

const (
	resolved = "fairlead.io/controller web: Accepted=True/Accepted@%d ResolvedRefs=True/ResolvedRefs@%d"
	dangling = "fairlead.io/controller web: Accepted=True/Accepted@%d ResolvedRefs=False/BackendNotFound@%d"
	others   = "example.com/other gate: Accepted=True/Accepted@7"
)

func at(format string, generation int) string { return fmt.Sprintf(format, generation, generation) }

func TestStatuses(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1")
	s.Define(ownGroup, "v1alpha1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), route("r", "web"))
	c := follow(t, s)
	c.writing(t, nil)
	eventually(t, "the status", c.has("r", at(resolved, 1)))

	// What another controller writes stays, and is no reason to write.
	s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"status": {"parents": [
		{"controllerName": "example.com/other", "parentRef": {"name": "gate"}, "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "observedGeneration": 7, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
		{"controllerName": "fairlead.io/controller", "parentRef": {"group": "", "kind": "Service", "name": "gone"}, "conditions": []}]}}`)
	s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"spec": {"rules": [{"backendRefs": [{"name": "none", "port": 80}]}]}}`)
	eventually(t, "ours is new, and what is gone has gone", c.has("r", others, at(dangling, 2)))
	s.Set(service("none", "10.96.0.9"))
	eventually(t, "the backend has come", c.has("r", others, at(resolved, 2)))
	s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"spec": {"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gate"}]}}`)
	eventually(t, "nothing of ours is left", c.has("r", others))
}

// TestAStatusThatStands is not written again: neither by a controller that begins to lead, nor when it changes nothing.
func TestAStatusThatStands(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"))
	for i := range 20 {
		s.Set(route(fmt.Sprint("r", i), "web"))
	}
	c := follow(t, s)
	c.writing(t, nil)
	for i := range 20 {
		eventually(t, "the status", c.has(fmt.Sprint("r", i), at(resolved, 1)))
	}
	before := updates(s)
	if before != 20 {
		t.Errorf("%d updates for 20 routes", before)
	}
	again := follow(t, s)
	again.writing(t, nil)
	s.Set(route("last", "web"))
	eventually(t, "the status of another", again.has("last", at(resolved, 1)))
	s.Merge("httproutes."+gatewayGroup, "shop", "r0", `{"metadata": {"labels": {"a": "b"}}}`)
	s.Set(route("behind", "web"))
	eventually(t, "one behind it", again.has("behind", at(resolved, 1)))
	if n := updates(s) - before; n > 4 { // two controllers write two
		t.Errorf("%d updates of what stood", n)
	}
}

// TestAStatusThatIsNotTaken is tried again.
func TestAStatusThatIsNotTaken(t *testing.T) {
	for _, status := range []int{http.StatusConflict, http.StatusServiceUnavailable} {
		s := kubetest.New(t)
		s.Define(gatewayGroup, "v1")
		failed := make(chan bool, 100)
		s.Fail(func(q kubetest.Request) int {
			if q.Verb == "update" && strings.HasSuffix(q.Of(), "/status") && len(failed) < 3 {
				failed <- true
				return status
			}
			return 0
		})
		s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), route("r", "web"))
		c := follow(t, s)
		c.writing(t, nil)
		eventually(t, "the status", c.has("r", at(resolved, 1)))
		if len(failed) != 3 {
			t.Errorf("%d attempts failed", len(failed))
		}
	}
}

// TestTransitionTimes: the time is that at which a condition's status changed, not its message.
func TestTransitionTimes(t *testing.T) {
	s := kubetest.New(t)
	s.Define(gatewayGroup, "v1")
	s.Set(namespace("shop", "enabled"), service("web", "10.96.0.1"), route("r", "web"))
	c := follow(t, s)
	first := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	c.writing(t, func() time.Time { return first.Add(time.Duration(updates(s)) * time.Hour) })
	eventually(t, "the status", c.has("r", at(resolved, 1)))
	s.Merge("httproutes."+gatewayGroup, "shop", "r", `{"spec": {"rules": [{"backendRefs": [{"name": "none", "port": 80}]}]}}`)
	eventually(t, "the reference is broken", c.has("r", at(dangling, 2)))
	var r gatewayv1.HTTPRoute
	if err := json.Unmarshal([]byte(c.Text("httproutes."+gatewayGroup, "shop", "r")), &r); err != nil {
		t.Fatal(err)
	}
	x := r.Status.Parents[0].Conditions
	if !x[0].LastTransitionTime.Time.Equal(first) || !x[1].LastTransitionTime.After(first) {
		t.Errorf("times: %v, %v", x[0].LastTransitionTime, x[1].LastTransitionTime)
	}
}
