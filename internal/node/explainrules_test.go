package node

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

func TestExplainRules(t *testing.T) {
	w := newWorld()
	w.apply(shop())
	w.apply(mesh.Delta{Routes: []*mesh.Routes{shopRoutes(canaryRule(90, 10))}})
	b := testBrain(w)
	pod := &l7.Pod{UID: "web", Name: mesh.Name{Namespace: "shop", Name: "web-1"}}
	s := w.Snapshot()
	svc, port, _ := s.ServiceByAddr(netip.AddrPortFrom(vip, 80))
	for query, want := range map[string]string{
		"":                                  "routes|1 rules of HTTPRoute shop/canary",
		"?path=/x&header=x-user: a":         "rule|GET /x meets rule split of HTTPRoute shop/canary: weight 90 to shop/v1:80; weight 10 to shop/v2:80",
		"?method=POST&path=/y&header=A:b":   "rule|POST /y meets rule split",
		"?path=/x&header=nothing":           "error",
		"?path=/x&header=" + "bad%20name:x": "error",
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/explain"+strings.ReplaceAll(query, " ", "%20"), nil)
		asked, err := requestOf(r)
		if want == "error" {
			if err == nil {
				t.Errorf("%s: no error", query)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		e := &explainer{b: b, pod: pod, request: asked}
		e.rules(s, svc, port, vip)
		last := e.out.Steps[len(e.out.Steps)-1]
		if got := last.Name + "|" + last.Text; !strings.HasPrefix(got, want) || !last.OK {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
