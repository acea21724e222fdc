package node

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

var update = flag.Bool("update", false, "write what proxies tell anew, for the tests of the command line tool")

func ask(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// moments are what differs from run to run.
var moments = regexp.MustCompile(`"(now|started)":"[^"]*"|"latencySeconds":[0-9.e-]+|go_version="[^"]*"|until [-0-9T:]+Z|expiry_timestamp_seconds\{.*`)

func steady(s string) string {
	return moments.ReplaceAllStringFunc(s, func(m string) string {
		switch {
		case strings.HasPrefix(m, "until"):
			return "until 2026-11-25T14:00:00Z"
		case strings.HasPrefix(m, "go_version"):
			return `go_version="go1.26"`
		case strings.HasPrefix(m, `"latency`):
			return `"latencySeconds":0.005`
		case strings.HasPrefix(m, "expiry"):
			labels, _, _ := strings.Cut(m, " ")
			return labels + " 1.7640864e+09"
		}
		name, _, _ := strings.Cut(m, ":")
		return name + `:"2026-11-25T12:00:00Z"`
	})
}

// TestDebugAnswers holds what a proxy tells to files that the tests of the command line tool read: what one end says
// the other end understands.
func TestDebugAnswers(t *testing.T) {
	v := newVoteWorld(t)
	for _, p := range v.rows {
		if p.InMesh {
			v.a.push(p.Account, v.a.issue(p.Account, p.Node, time.Hour))
		}
	}
	for _, target := range []struct{ node, vip string }{{"n1", "10.96.0.10:80"}, {"n1", "10.96.0.11:8081"}, {"n1", "10.96.0.12:8082"}} {
		n := v.nodes[target.node]
		if _, err := n.brain.Load().Outbound(t.Context(), n.pods.pod("uid-front"), netip.MustParseAddrPort(target.vip)); err != nil {
			t.Fatal(err)
		}
	}
	v.traffic(3)
	v.connect("bot", "front", l7.KindHTTP1, l7.SecurityMTLS)
	v.golden(t, 0)
	v.traffic(5)
	v.connect("bot", "front", l7.KindHTTP1, l7.SecurityMTLS)
	v.golden(t, 1)
}

// golden compares every answer with its file.
func (v *voteWorld) golden(t *testing.T, moment int) {
	t.Helper()
	for node := range v.nodes {
		h := v.handler(node)
		paths := map[string]string{}
		for _, p := range []string{"/metrics", debug.PodsPath, debug.EdgesPath, debug.RoutesPath} {
			paths[p] = fmt.Sprintf("%s.%d", filepath.Base(p), moment)
		}
		if moment == 0 {
			paths[debug.NodePath] = "node"
			for _, svc := range []string{"front", "catalog", "ballot"} {
				paths[debug.EndpointsPath+"?service=vote/"+svc] = "endpoints-" + svc
			}
			paths[debug.ExplainPath+"?"+url.Values{"pod": {"uid-front"}, "dst": {"10.96.0.12:8082"}}.Encode()] = "explain-front-ballot"
			paths[debug.ExplainPath+"?"+url.Values{"pod": {"uid-ballot"}, "src": {"10.244.1.3"}, "port": {"8082"}}.Encode()] = "explain-ballot-from-front"
		}
		for path, name := range paths {
			status, body := ask(t, h, path)
			if status != http.StatusOK {
				t.Errorf("%s on %s: %d %s", path, node, status, body)
				continue
			}
			compareFile(t, filepath.Join("../fleet/fleettest/vote", node, name), indented(steady(body)))
		}
	}
}

// indented makes JSON readable.
func indented(s string) string {
	var v json.RawMessage
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return s
	}
	return string(out) + "\n"
}

func compareFile(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", name, diff)
	}
}

// TestDebugChangesNothing asks for a service that nobody uses, and for accounts that have no certificate.
func TestDebugChangesNothing(t *testing.T) {
	v := newVoteWorld(t)
	v.world.apply(mesh.Delta{GoneEndpoints: []mesh.Name{{Namespace: "vote", Name: "ballot"}}})
	h, n := v.handler("n1"), v.nodes["n1"]
	for _, path := range []string{
		debug.EndpointsPath + "?service=vote/ballot",
		debug.RulesPath, debug.AuthzPath,
		debug.ExplainPath + "?pod=uid-front&dst=10.96.0.12:8082",
		debug.ExplainPath + "?pod=uid-front&dst=10.96.0.11:8081",
		debug.ExplainPath + "?pod=uid-front&src=10.244.2.3&port=1",
		debug.ExplainPath + "?pod=nobody&dst=10.96.0.12:8082",
		debug.IdentitiesPath,
	} {
		if status, body := ask(t, h, path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if len(v.world.subs) > 0 {
		t.Errorf("subscribed to %v", v.world.subs)
	}
	if b := n.brain.Load(); len(b.clusters.m) > 0 {
		t.Errorf("%d clusters were made", len(b.clusters.m))
	}
	if len(v.a.creds.accounts) > 0 {
		t.Errorf("%d accounts were made", len(v.a.creds.accounts))
	}
	if e, err := n.brain.Load().clusters.peek(v.world.Snapshot(), v.world.Snapshot().Service(mesh.Name{Namespace: "vote", Name: "catalog"}),
		mesh.Port{Name: "web"}, netip.MustParseAddr("10.96.0.11")).Pick(balance.Choice{}); err != nil || !e.Mesh {
		t.Errorf("peek: %+v, %v", e, err)
	}
}

func TestDebugRefusesNonsense(t *testing.T) {
	h := newVoteWorld(t).handler("n1")
	for path, want := range map[string]int{
		debug.EndpointsPath:                                     http.StatusBadRequest,
		debug.EndpointsPath + "?service=ballot":                 http.StatusBadRequest,
		debug.EndpointsPath + "?service=vote/nothing":           http.StatusNotFound,
		debug.ExplainPath:                                       http.StatusBadRequest,
		debug.ExplainPath + "?pod=uid-front":                    http.StatusBadRequest,
		debug.ExplainPath + "?pod=uid-front&dst=ballot:80":      http.StatusBadRequest,
		debug.ExplainPath + "?pod=u&src=10.0.0.1&port=99999":    http.StatusBadRequest,
		debug.ExplainPath + "?pod=u&src=10.0.0.1&dst=1.2.3.4:5": http.StatusBadRequest,
	} {
		if status, body := ask(t, h, path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	starting := newNode(Config{Node: "n1"})
	if status, _ := ask(t, starting.handler(), debug.EndpointsPath+"?service=a/b"); status != http.StatusServiceUnavailable {
		t.Errorf("before there is a table: %d", status)
	}
	status, body := ask(t, starting.handler(), debug.NodePath)
	var state debug.Node
	if err := json.Unmarshal([]byte(body), &state); err != nil || status != http.StatusOK || len(state.Pending) != 3 || state.Controller || state.Keeper {
		t.Errorf("before there is a table: %d %s", status, body)
	}
}

// TestExplainTellsWhatTheBrainDoes goes through the forms of a destination and of a client.
func TestExplainTellsWhatTheBrainDoes(t *testing.T) {
	v := newVoteWorld(t)
	h, n := v.handler("n1"), v.nodes["n1"]
	if _, err := n.brain.Load().Outbound(t.Context(), n.pods.pod("uid-front"), netip.MustParseAddrPort("10.96.0.11:8081")); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string][]string{
		"pod=uid-front&dst=10.96.0.11:8081":      {"destination", "service vote/catalog, port 8081; its protocol is found out", "known: 3", "spiffe://cluster.local/ns/vote/sa/catalog"},
		"pod=uid-front&dst=10.96.0.12:1":         {"the service has no such port"},
		"pod=uid-front&dst=10.244.2.9:80":        {"is pod tools/crawler-0", "plaintext: pod tools/crawler-0 is not in the mesh"},
		"pod=uid-front&dst=10.244.2.3:80":        {"mutual TLS; the server must be spiffe://cluster.local/ns/vote/sa/ballot, with a certificate of node n2"},
		"pod=uid-front&dst=10.244.1.3:80":        {"the pod speaks to itself"},
		"pod=uid-front&dst=203.0.113.1:443":      {"neither a service nor a pod", "plaintext: the address is outside"},
		"pod=uid-front&src=10.244.2.3&port=8080": {"in the mesh: it must prove to be spiffe://cluster.local/ns/vote/sa/ballot", "plaintext passes"},
		"pod=uid-front&src=10.244.2.9&port=8080": {"outside the mesh"},
		"pod=uid-front&src=203.0.113.1&port=80":  {"is in no table"},
		"pod=uid-front&src=10.244.1.3&port=80":   {"is the pod itself"},
		"pod=gone&dst=10.96.0.11:8081":           {"no such pod"},
	} {
		_, body := ask(t, h, debug.ExplainPath+"?"+query)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: no %q in %s", query, w, indented(body))
			}
		}
	}
}
