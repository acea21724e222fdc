package policy

import (
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

func TestTheDecidingRuleIsNamed(t *testing.T) {
	who, stranger := clients["web"], clients["world"]
	d := decider(mesh.PolicyDeny, "ALLOW pod:80 sa:shop/web any", "DENY pod any path:/admin")
	for _, c := range []struct {
		name string
		got  Verdict
		want Rule
	}{
		{"allowed", d.Request(&who, 80, protocols["get"]), Rule{Policy: mesh.Name{Namespace: "data", Name: "p0"}}},
		{"denied", d.Request(&who, 80, protocols["post"]), Rule{Policy: mesh.Name{Namespace: "data", Name: "p1"}, Action: mesh.Deny}},
		{"no ALLOW", d.Request(&stranger, 80, protocols["get"]), Rule{Policy: mesh.Name{Namespace: "data", Name: "p0"}, Index: -1}},
		{"default", d.Request(&who, 81, protocols["get"]), Rule{Default: true, Stated: mesh.PolicyDeny, Index: -1}},
	} {
		if c.got.By == nil || *c.got.By != c.want {
			t.Errorf("%s: by %+v, want %+v", c.name, c.got.By, c.want)
		}
	}
	if v := d.Connection(&who, 80); !v.Allowed || !v.NeedsRequest || v.By != nil {
		t.Errorf("before the request: %+v", v)
	}
}

func TestAuditCounts(t *testing.T) {
	web, world, spy := clients["web"], clients["world"], clients["spy"]
	d := decider(mesh.PolicyAudit, "AUDIT pod ns:other path:/api", "AUDIT ns sa:other/web any", "AUDIT ports:81 any any")
	for _, c := range []struct {
		name string
		who  *Client
		port uint16
		r    Request
		want int
	}{
		{"authenticated", &web, 80, protocols["get"], 0},
		{"the default, unauthenticated", &world, 80, protocols["get"], 1},
		{"two policies", &spy, 80, protocols["get"], 2},
		{"opaque bytes: what asks about requests does not count", &spy, 80, nil, 1},
		{"a port", &web, 81, nil, 1},
	} {
		if got := d.Audited(nil, c.who, c.port, c.r); len(got) != c.want {
			t.Errorf("%s: %d hits, want %d", c.name, len(got), c.want)
		}
		if !d.Request(c.who, c.port, c.r).Allowed {
			t.Errorf("%s: refused", c.name)
		}
	}
}

func TestTrivial(t *testing.T) {
	for line, want := range map[string]bool{"DENY nobody any any": true, "AUDIT pod any any": false, "ALLOW pod any any": false, "DENY mesh any any": false} {
		if got := decider(mesh.PolicyAllow, line).Trivial(); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if decider(mesh.PolicyAudit).Trivial() || decider(mesh.DefaultPolicy(9)).Request(&Client{Authenticated: true}, 80, nil).Allowed {
		t.Error("a default that is not allow")
	}
}

// TestAnOpenPodTakesWhatComes: its peers have been told to speak plaintext to it, and nobody is to be cut off by that.
func TestAnOpenPodTakesWhatComes(t *testing.T) {
	s := (&mesh.Snapshot{}).Apply(mesh.Delta{Reset: true, Authorizations: []*mesh.Authorization{
		{Name: mesh.Name{Namespace: "fairlead-system", Name: "all"}, Action: mesh.Deny, Mesh: true, Rules: []mesh.AuthRule{{}}},
		{Name: mesh.Name{Namespace: "shop", Name: "none"}, Action: mesh.Allow, All: "shop"},
	}})
	pod := &mesh.Pod{Name: mesh.Name{Namespace: "shop", Name: "web"}, Policy: mesh.PolicyDeny, Policies: []mesh.PolicyRef{{Policy: mesh.Name{Namespace: "shop", Name: "gone"}}}}
	who := &Client{}
	if For(s, pod).Request(who, 80, nil).Allowed {
		t.Error("plaintext is let into a pod of the mesh")
	}
	pod.Open = true
	if d := For(s, pod); !d.Trivial() || !d.Request(who, 80, nil).Allowed || !d.Connection(who, 80).Allowed {
		t.Error("plaintext is refused by a pod that has left")
	}
}

// What went wrong elsewhere in 2026 (linkerd2 issues), each as a question to this engine.

// A Server selected pods of other namespaces (15243): a policy of one namespace is about no pod of another, whatever the row says.
func TestAPolicyStaysInItsNamespace(t *testing.T) {
	who := clients["web"]
	for _, line := range []string{"DENY foreign-pod any any", "DENY foreign-ns any any", "LATER foreign-pod any any"} {
		if v := decider(mesh.PolicyAllow, line).Connection(&who, 80); !v.Allowed {
			t.Errorf("%s: %+v", line, v)
		}
	}
}

// Policies of the same name in two namespaces must not stand for each other (15324).
func TestANameIsOfItsNamespace(t *testing.T) {
	who := clients["web"]
	pod := &mesh.Pod{UID: "db", Name: mesh.Name{Namespace: "data", Name: "db-0"}, Policies: []mesh.PolicyRef{{Policy: mesh.Name{Namespace: "data", Name: "p"}}}}
	open := &mesh.Authorization{Name: mesh.Name{Namespace: "other", Name: "p"}, Rules: []mesh.AuthRule{{}}}
	closed := &mesh.Authorization{Name: mesh.Name{Namespace: "data", Name: "p"}}
	s := new(mesh.Snapshot).Apply(mesh.Delta{Pods: []*mesh.Pod{pod}, Authorizations: []*mesh.Authorization{open, closed}})
	if For(s, pod).Connection(&who, 80).Allowed {
		t.Error("the other namespace's policy allowed it")
	}
}

// The deletion of one policy removed another (15326): what is left stays in force.
func TestADeletionTakesOneAlone(t *testing.T) {
	who, spy := clients["web"], clients["spy"]
	pod := &mesh.Pod{UID: "db", Name: mesh.Name{Namespace: "data", Name: "db-0"}}
	var all []*mesh.Authorization
	for i, line := range []string{"DENY ns sa:shop/web any", "DENY ns sa:other/web any"} {
		a, _ := write(i, line)
		all = append(all, a)
	}
	s := new(mesh.Snapshot).Apply(mesh.Delta{Pods: []*mesh.Pod{pod}, Authorizations: all})
	s = s.Apply(mesh.Delta{GoneAuthorizations: []mesh.Name{all[0].Name}})
	if d := For(s, pod); !d.Connection(&who, 80).Allowed || d.Connection(&spy, 80).Allowed {
		t.Error("not the one that was deleted is gone")
	}
}

// Ports that no Service names were reachable (15473): a policy without ports is about every port of the pod.
func TestUndeclaredPortsAreCovered(t *testing.T) {
	who := clients["world"]
	d := decider(mesh.PolicyAllow, "ALLOW pod sa:shop/web any")
	for _, port := range []uint16{1, 80, 8080, 65535} {
		if d.Connection(&who, port).Allowed {
			t.Errorf("port %d is open", port)
		}
	}
}

// A watch that had died left old policy in force (15506). Here a row that names a policy nobody has told refuses.
func TestAMissingPolicyRefuses(t *testing.T) {
	who := clients["web"]
	pod := &mesh.Pod{UID: "db", Name: mesh.Name{Namespace: "data", Name: "db-0"}, Policies: []mesh.PolicyRef{{Policy: mesh.Name{Namespace: "data", Name: "late"}, Port: 80}}}
	d := For(new(mesh.Snapshot).Apply(mesh.Delta{Pods: []*mesh.Pod{pod}}), pod)
	if d.Connection(&who, 80).Allowed || !d.Connection(&who, 81).Allowed {
		t.Error("the port that it is about is open, or another closed")
	}
}
