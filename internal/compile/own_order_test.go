package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

// policyWorld is all that policies come to, as text: rows, what is about pods, traffic, statuses.
func policyWorld(w *World) []string {
	d := w.Delta(0, all)
	var out []string
	for _, a := range d.Authorizations {
		out = append(out, fmt.Sprintf("policy %+v", *a))
	}
	for _, p := range d.Pods {
		out = append(out, fmt.Sprintf("pod %s %v", p.Name, p.Policies))
	}
	for _, r := range d.Routes {
		for _, p := range r.Ports {
			out = append(out, fmt.Sprintf("port %s %d %s", r.Service, p.Port, trafficText(p.Policy)))
			for _, x := range p.Rules {
				out = append(out, fmt.Sprintf("rule %s %d %s %s", r.Service, p.Port, x.Title, trafficText(x.Policy)))
			}
		}
	}
	statuses, _ := w.PolicyStatuses(0)
	for _, s := range statuses {
		out = append(out, fmt.Sprintf("status %s %s", s.Key, policyConditions(s)))
	}
	slices.Sort(out)
	return out
}

// TestPoliciesComeToTheSameStepByStep: a world that has seen every change is the one that sees only the end; and its
// deltas add up to it.
func TestPoliciesComeToTheSameStepByStep(t *testing.T) {
	pick := func(rnd *rand.Rand, from ...string) string { return from[rnd.IntN(len(from))] }
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(5, seed))
		w, f := NewWorld(Config{}), newFiles()
		follower := (&mesh.Snapshot{}).Apply(w.Delta(0, all))
		files := map[string]string{}
		for range 150 {
			name, doc := "", ""
			switch rnd.IntN(8) {
			case 0:
				name, doc = "ns", nsShop
			case 1:
				name, doc = "svc", pick(rnd, "", twoPorts, strings.Replace(twoPorts, "port: 80}", "port: 82}", 1))
			case 2:
				name, doc = "slice", pick(rnd, "", sliceOf("shop", "web", "http", 8080, "10.0.0.1", "10.0.0.2"), sliceOf("shop", "web", "http", 8080, "10.0.0.3"), sliceOf("shop", "web", "admin", 9, "10.0.0.1"))
			case 3:
				i := 1 + rnd.IntN(3)
				name, doc = fmt.Sprint("pod", i), pick(rnd, "", labelled("shop", fmt.Sprint("p", i), fmt.Sprint("10.0.0.", i), pick(rnd, "web", "other")))
			case 4:
				name, doc = "route", pick(rnd, "", routeOfWeb, strings.Replace(routeOfWeb, "name: admin", "name: other", 1), strings.Replace(routeOfWeb, "port: 80}]\n", "port: 82}]\n", 1))
			case 5:
				i := rnd.IntN(3)
				name, doc = fmt.Sprint("traffic", i), pick(rnd, "", trafficDoc(fmt.Sprint("t", i), rnd.IntN(3), pick(rnd, forWeb, forRoute, forRule), pick(rnd, "retries: {}", "timeouts: {request: 1s}")))
			default:
				i := rnd.IntN(3)
				target := pick(rnd, "kind: Namespace", forWebPods, "kind: Service, name: web", "kind: Service, name: web, ports: [81]", "kind: HTTPRoute, name: r", "kind: HTTPRoute, name: r, sectionName: admin")
				name, doc = fmt.Sprint("authz", i), pick(rnd, "", authzDoc("shop", fmt.Sprint("a", i), target, pick(rnd, allowShop, denyShop)))
			}
			before := w.Version()
			files[name] = doc
			apply(t, w, f, name, doc)
			follower = follower.Apply(w.Delta(before, all))
		}
		fresh, g := NewWorld(Config{}), newFiles()
		apply(t, fresh, g, "ns", nsShop)
		for name, doc := range files {
			apply(t, fresh, g, name, doc)
		}
		apply(t, w, f, "ns", nsShop)
		follower = follower.Apply(w.Delta(w.Version()-1, all))
		if diff := cmp.Diff(policyWorld(fresh), policyWorld(w)); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for _, a := range w.Delta(0, all).Authorizations {
			if !cmp.Equal(a, follower.Authorization(a.Name)) {
				t.Errorf("seed %d: %s by deltas: %+v, is %+v", seed, a.Name, follower.Authorization(a.Name), a)
			}
		}
		if n := len(w.Delta(0, all).Authorizations); n != len(follower.Authorizations()) {
			t.Errorf("seed %d: %d policies by deltas, there are %d", seed, len(follower.Authorizations()), n)
		}
	}
}
