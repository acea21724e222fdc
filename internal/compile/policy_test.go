package compile

import (
	"net/netip"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

const nsClosed = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {fairlead.io/mesh: enabled}, annotations: {fairlead.io/default-policy: authenticated}}"

// stating is nsClosed, or the document of a pod, with that policy.
func stating(doc, policy string) string {
	if strings.Contains(doc, "annotations") {
		return strings.Replace(doc, "policy: authenticated", "policy: '"+policy+"'", 1)
	}
	return strings.Replace(doc, "namespace: shop,", "namespace: shop, annotations: {fairlead.io/default-policy: '"+policy+"'},", 1)
}

func TestWhosePolicyCounts(t *testing.T) {
	p := podDoc("p", "10.0.0.1", "")
	for _, c := range []struct {
		name, ns, pod string
		mesh, want    mesh.DefaultPolicy
		problems      int
	}{
		{"nobody's", nsShop, p, mesh.PolicyAllow, mesh.PolicyAllow, 0},
		{"the mesh's", nsShop, p, mesh.PolicyAuthenticated, mesh.PolicyAuthenticated, 0},
		{"the namespace's", nsClosed, p, mesh.PolicyAllow, mesh.PolicyAuthenticated, 0},
		{"the namespace's against the mesh's", stating(nsClosed, "allow"), p, mesh.PolicyAuthenticated, mesh.PolicyAllow, 0},
		{"the pod's", nsShop, stating(p, "authenticated"), mesh.PolicyAllow, mesh.PolicyAuthenticated, 0},
		{"the pod's against the namespace's", nsClosed, stating(p, "allow"), mesh.PolicyAuthenticated, mesh.PolicyAllow, 0},
		{"empty", nsShop, stating(p, ""), mesh.PolicyAuthenticated, mesh.PolicyAuthenticated, 0},
		{"a slip in a new namespace", stating(nsClosed, "alow"), p, mesh.PolicyAllow, mesh.PolicyAuthenticated, 1},
		{"a slip in a new pod", nsShop, stating(p, "Authenticated"), mesh.PolicyAllow, mesh.PolicyAuthenticated, 1},
		{"a slip in a namespace, and a pod that says", stating(nsClosed, "none"), stating(p, "allow"), mesh.PolicyAllow, mesh.PolicyAllow, 1},
		{"deny", stating(nsClosed, "deny"), p, mesh.PolicyAllow, mesh.PolicyDeny, 0},
		{"audit", nsClosed, stating(p, "audit"), mesh.PolicyDeny, mesh.PolicyAudit, 0},
		{"outside the mesh", stating(strings.Replace(nsClosed, "enabled", "disabled", 1), "authenticated"), p, mesh.PolicyAuthenticated, mesh.PolicyAllow, 0},
	} {
		w := NewWorld(Config{DefaultPolicy: c.mesh})
		apply(t, w, newFiles(), "f.yaml", c.ns, c.pod)
		if row := pod(t, w, "u-p"); row == nil || row.Policy != c.want {
			t.Errorf("%s: %+v, want %v", c.name, row, c.want)
		}
		if problems := w.Problems(); len(problems) != c.problems {
			t.Errorf("%s: problems %v", c.name, problems)
		}
	}
}

// A value that is none keeps the last good one in force, of namespace and pod, and everything else of the object counts.
func TestTheLastGoodPolicyStays(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	p := podDoc("p", "10.0.0.1", "")
	check := func(when string, want mesh.DefaultPolicy, problems int) {
		t.Helper()
		if row := pod(t, w, "u-p"); row.Policy != want || len(w.Problems()) != problems {
			t.Errorf("%s: %v, problems %v", when, row.Policy, w.Problems())
		}
	}
	apply(t, w, f, "f.yaml", nsShop, p)
	check("nothing is said", mesh.PolicyAllow, 0)
	apply(t, w, f, "f.yaml", stating(nsClosed, "yes"), p)
	check("a slip where nothing was said", mesh.PolicyAllow, 1)
	apply(t, w, f, "f.yaml", nsClosed, p)
	check("the namespace says it", mesh.PolicyAuthenticated, 0)
	apply(t, w, f, "f.yaml", stating(nsClosed, "no"), p)
	check("a slip in the namespace", mesh.PolicyAuthenticated, 1)
	apply(t, w, f, "f.yaml", stating(nsClosed, "no"), stating(p, "allow"))
	check("the pod says otherwise", mesh.PolicyAllow, 1)
	apply(t, w, f, "f.yaml", stating(nsClosed, "no"), stating(podDoc("p", "10.0.0.1", ", terminationGracePeriodSeconds: 7"), "al"))
	check("a slip in the pod", mesh.PolicyAllow, 2)
	if told, _ := w.Enrolments("a"); len(told) != 1 || told[0].Drain.Seconds() != 7 {
		t.Errorf("the rest of the pod is not in force: %+v", told)
	}
	apply(t, w, f, "f.yaml", stating(nsClosed, "no"), p)
	check("the pod says nothing any more", mesh.PolicyAuthenticated, 1)
	apply(t, w, f, "f.yaml", nsShop, p)
	check("nobody says anything any more", mesh.PolicyAllow, 0)
}

// A policy is nothing for keepers, and a change of it is a change of the rows alone.
func TestAPolicyChangesRowsAlone(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	q := stating(podDoc("q", "10.0.0.2", ""), "allow")
	apply(t, w, f, "f.yaml", nsShop, podDoc("p", "10.0.0.1", ""), q)
	_, told := w.Enrolments("a")
	_, names := w.Namespaces()
	before := w.Version()
	apply(t, w, f, "f.yaml", nsClosed, podDoc("p", "10.0.0.1", ""), q)
	if d := w.Delta(before, all); len(d.Pods) != 1 || d.Pods[0].UID != "u-p" || d.Pods[0].Policy != mesh.PolicyAuthenticated {
		t.Errorf("%+v", d)
	}
	_, toldNow := w.Enrolments("a")
	_, namesNow := w.Namespaces()
	if toldNow != told || namesNow != names {
		t.Error("keepers are told again")
	}
}

// A pod that leaves the mesh is announced as open before it is released: whoever has heard of it speaks plaintext to it.
// One that is deleted stays closed to the end, and one that is captured is closed before it is announced.
func TestThePolicyOnTheWayOut(t *testing.T) {
	p := podDoc("p", "10.0.0.1", "")
	for name, c := range map[string]struct {
		docs []string
		want mesh.DefaultPolicy
	}{
		"left":    {[]string{strings.Replace(nsClosed, "enabled", "disabled", 1), p}, mesh.PolicyAllow},
		"deleted": {[]string{nsClosed}, mesh.PolicyAuthenticated},
	} {
		w, f := NewWorld(Config{}), newFiles()
		apply(t, w, f, "f.yaml", nsClosed, p)
		if row := pod(t, w, "u-p"); row.InMesh || row.Policy != mesh.PolicyAuthenticated {
			t.Fatalf("%s: before it is captured: %+v", name, row)
		}
		w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-p": addrs("10.0.0.1")})
		apply(t, w, f, "f.yaml", c.docs...)
		if row := pod(t, w, "u-p"); row == nil || row.InMesh || row.Policy != c.want || row.Open != (name == "left") {
			t.Errorf("%s: before it is released: %+v", name, row)
		}
	}
}

// TestThePolicyWhenAllLeave: peers are told that nobody is in the mesh, and speak plaintext; whoever refused it would be cut off.
func TestThePolicyWhenAllLeave(t *testing.T) {
	w := NewWorld(Config{})
	apply(t, w, newFiles(), "f.yaml", nsClosed, podDoc("p", "10.0.0.1", ""))
	w.SetClosed(true)
	if row := pod(t, w, "u-p"); row.Policy != mesh.PolicyAllow || !row.Open {
		t.Errorf("while all leave: %+v", row)
	}
	w.SetClosed(false)
	if row := pod(t, w, "u-p"); row.Policy != mesh.PolicyAuthenticated {
		t.Errorf("when they may come back: %+v", row)
	}
}
