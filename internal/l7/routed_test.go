package l7

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// routed is a client's pod that dials a service with rules, and the backends that these name.
type routed struct {
	t        *testing.T
	w        *world
	rec      *ledger
	live     *routing.Live
	out      net.Listener
	dst      Destination
	clusters map[mesh.Name]*balance.Cluster
	behind   *ledger // of the backends' node
}

// setting is how the test's pods are.
type setting struct{ h2, inMesh bool }

func (s setting) String() string { return fmt.Sprintf("h2=%v,mesh=%v", s.h2, s.inMesh) }

var settings = []setting{{false, false}, {true, false}, {false, true}, {true, true}}

// newRouted makes backends of listeners, test/NAME:80 each; "svc" is also the service itself.
func newRouted(t *testing.T, inMesh bool, protocol mesh.Protocol, row *mesh.PortRoutes, change func(*Config), apps map[string]net.Listener, more ...func(*world)) *routed {
	t.Helper()
	r := &routed{t: t, w: newWorld(t), rec: &ledger{}, behind: &ledger{}, live: &routing.Live{}, clusters: map[mesh.Name]*balance.Cluster{}}
	client := r.w.pod(1, true)
	n := 2
	var specs []*Pod
	for name, app := range apps {
		p := r.w.pod(n, inMesh)
		n++
		if in := r.w.in(p, 8080, app); in != nil {
			specs = append(specs, p.spec(nil, []net.Listener{in}))
		}
		c := balance.New(balance.Config{})
		c.Set([]balance.Endpoint{r.w.endpoint(p, 8080)})
		r.clusters[mesh.Name{Namespace: "test", Name: name}] = c
	}
	r.dst = r.w.service("10.96.0.1:80", protocol)
	r.dst.Routes = r.live
	if c := r.clusters[r.dst.Service]; c != nil {
		r.dst.Cluster = c
	}
	if row != nil {
		r.set(row)
	}
	r.out = r.w.out(client, r.dst)
	for _, f := range more {
		f(r.w)
	}
	r.w.node(r.rec, change, client.spec([]net.Listener{r.out}, nil))
	if len(specs) > 0 {
		r.w.node(r.behind, nil, specs...)
	}
	return r
}

func (r *routed) set(row *mesh.PortRoutes) {
	r.t.Helper()
	table, err := routing.New(row, func(n mesh.Name, _ uint16) *balance.Cluster { return r.clusters[n] })
	if err != nil {
		r.t.Fatal(err)
	}
	r.live.Set(table)
}

// httpRow is a row of HTTPRoute with one rule per path prefix.
func httpRow(rules ...mesh.Rule) *mesh.PortRoutes {
	row := &mesh.PortRoutes{Port: 80, Kind: mesh.HTTPRoute, Rules: rules}
	for i := range rules {
		rules[i].Kind, rules[i].Route, rules[i].Index = mesh.HTTPRoute, mesh.Name{Namespace: "test", Name: "route"}, i
		row.Order = append(row.Order, mesh.RuleMatch{Rule: i, Match: mesh.Match{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: rules[i].Title}}})
	}
	return row
}

// to is backends with weights, by their names.
func to(names ...string) (all []mesh.Backend) {
	for _, n := range names {
		all = append(all, mesh.Backend{Service: mesh.Name{Namespace: "test", Name: n}, Port: 80, Weight: 1})
	}
	return all
}

// saying answers with its name and what it got.
func saying(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-App", "own")
		fmt.Fprintf(w, "%s %s %s%s %q %d", name, r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Edit"), len(body))
	}
}

// answer is what a client got.
type answered struct {
	status int
	body   string
	header http.Header
}

func (r *routed) send(c *http.Client, req *http.Request) (a answered) {
	r.t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: body: %v", req.Method, req.URL, err)
	}
	return answered{resp.StatusCode, string(b), resp.Header}
}

func (r *routed) get(c *http.Client, path string) answered {
	r.t.Helper()
	return r.send(c, request1(r.t, "GET", path, nil))
}

func request1(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, "http://svc.test"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// client is one that does not follow redirects.
func (r *routed) client(h2 bool) *http.Client {
	c := httpClient(r.t, r.out, h2)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// last waits for the record of the nth request.
func (r *routed) last(n int) (rec RequestRecord) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d requests", n), func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		if len(r.rec.requests) < n {
			return false
		}
		rec = r.rec.requests[n-1]
		return true
	})
	return rec
}

// counted counts requests, and answers by f, which is told the number of each.
func counted(n *atomic.Int64, f func(n int64, w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { f(n.Add(1), w, r) }
}

// forever is a handler that answers when its client has gone.
func forever(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	select {
	case <-r.Context().Done():
	case <-time.After(20 * time.Second):
	}
}
