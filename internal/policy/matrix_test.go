package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// head is a request.
type head struct {
	method, path string
	fields       map[string]string
}

func (h *head) Verb() string   { return h.method }
func (h *head) Target() string { return h.path }
func (h *head) Field(name string) (string, bool) {
	v, ok := h.fields[name]
	return v, ok
}

// The clients.
const trust = "spiffe://cluster.local/ns/"

func account(ns, name, addr string) Client {
	return Client{ID: trust + ns + "/sa/" + name, Account: mesh.Account{Namespace: ns, Name: name}, Addr: netip.MustParseAddr(addr), Authenticated: true}
}

var clients = map[string]Client{
	"web":     account("shop", "web", "10.244.1.5"),
	"cart":    account("shop", "cart", "10.244.1.6"),
	"spy":     account("other", "web", "10.244.2.5"),
	"db":      account("data", "db", "10.244.1.8"), // itself, by another address
	"office":  {Addr: netip.MustParseAddr("192.0.2.7")},
	"printer": {Addr: netip.MustParseAddr("192.0.2.99")},
	"world":   {Addr: netip.MustParseAddr("203.0.113.7")},
	"world6":  {Addr: netip.MustParseAddr("2001:db8::7")},
	"node":    {Addr: netip.MustParseAddr("172.18.0.3")}, // the host's network
	"legacy":  {ID: trust + "shop/sa/legacy", Account: mesh.Account{Namespace: "shop", Name: "legacy"}, Addr: netip.MustParseAddr("10.244.1.9")},
}

// The protocols. tls is the app's own, which is opaque bytes as tcp is.
var protocols = map[string]*head{
	"get":   {method: "GET", path: "/api/items?page=2", fields: map[string]string{"x-env": "test"}},
	"post":  {method: "POST", path: "/admin/users"},
	"grpc":  {method: "POST", path: "/shop.Cart/Add", fields: map[string]string{"content-type": "application/grpc"}},
	"dirty": {method: "GET", path: "/api/%2e./admin/users"},
	"tcp":   nil,
	"tls":   nil,
}

// A policy in a line: action, target, from, to. Targets: mesh, ns, pod, pod:PORT, ports:PORT, and what is another
// namespace's. From: any, none, sa:, ns:, id:, cidr:, auth, plain. To: any, GET, path:, header:.
func write(i int, line string) (*mesh.Authorization, []mesh.PolicyRef) {
	f := strings.Fields(line)
	a := &mesh.Authorization{Name: mesh.Name{Namespace: "data", Name: fmt.Sprintf("p%d", i)}}
	a.Action = map[string]mesh.Action{"ALLOW": mesh.Allow, "DENY": mesh.Deny, "AUDIT": mesh.Audit, "LATER": 7}[f[0]]
	var refs []mesh.PolicyRef
	kind, arg, _ := strings.Cut(f[1], ":")
	var port uint16
	fmt.Sscan(arg, &port)
	switch kind {
	case "mesh":
		a.Mesh, a.Namespace = true, "fairlead"
	case "ns":
		a.All = "data"
	case "ports":
		a.All, a.Ports = "data", []uint16{port}
	case "foreign-ns":
		a.Namespace, a.All = "other", "data"
	case "foreign-pod":
		a.Namespace = "other"
		refs = append(refs, mesh.PolicyRef{Policy: a.Name})
	case "pod":
		refs = append(refs, mesh.PolicyRef{Policy: a.Name, Port: port})
	case "nobody":
	}
	if f[2] != "none" {
		a.Rules = []mesh.AuthRule{{From: from(f[2]), To: to(f[3])}}
	}
	return a, refs
}

func from(text string) []mesh.Peer {
	if text == "any" {
		return nil
	}
	var p mesh.Peer
	for _, part := range strings.Split(text, "+") {
		k, v, _ := strings.Cut(part, ":")
		switch k {
		case "sa":
			ns, name, _ := strings.Cut(v, "/")
			p.Accounts = append(p.Accounts, mesh.Account{Namespace: ns, Name: name})
		case "ns":
			p.Namespaces = append(p.Namespaces, v)
		case "id":
			p.IDs = append(p.IDs, v)
		case "cidr":
			p.CIDRs = append(p.CIDRs, netip.MustParsePrefix(v))
		case "not":
			p.Except = append(p.Except, netip.MustParsePrefix(v))
		case "auth":
			p.Authenticated = true
		case "plain":
			p.Unauthenticated = true
		case "later": // a part that is not known here
		}
	}
	return []mesh.Peer{p}
}

func to(text string) []mesh.Operation {
	if text == "any" {
		return nil
	}
	if text == "later" {
		return []mesh.Operation{{}}
	}
	var m mesh.Match
	for _, part := range strings.Split(text, "+") {
		k, v, _ := strings.Cut(part, ":")
		switch k {
		case "exact":
			m.Path = mesh.PathMatch{Kind: mesh.PathExact, Value: v}
		case "path":
			m.Path = mesh.PathMatch{Kind: mesh.PathPrefix, Value: v}
		case "regex":
			m.Path = mesh.PathMatch{Kind: mesh.PathRegex, Value: v}
		case "kind9":
			m.Path = mesh.PathMatch{Kind: 9, Value: v}
		case "header":
			n, v, _ := strings.Cut(v, "=")
			m.Headers = append(m.Headers, mesh.FieldMatch{Name: n, Value: v})
		case "query":
			n, v, _ := strings.Cut(v, "=")
			m.Query = append(m.Query, mesh.FieldMatch{Name: n, Value: v})
		default:
			m.Method = k
		}
	}
	return []mesh.Operation{{Matches: []mesh.Match{m}}}
}

func decider(def mesh.DefaultPolicy, policies ...string) *Decider {
	pod := &mesh.Pod{UID: "db", Name: mesh.Name{Namespace: "data", Name: "db-0"}, Policy: def, InMesh: true}
	var d mesh.Delta
	for i, line := range policies {
		a, refs := write(i, line)
		d.Authorizations = append(d.Authorizations, a)
		pod.Policies = append(pod.Policies, refs...)
	}
	d.Pods = []*mesh.Pod{pod}
	return For(new(mesh.Snapshot).Apply(d), pod)
}

// cell is a line of the matrix: policies, a default, and who with what gets in ("+") or does not ("-").
type cell struct {
	policies string // separated by ";"
	def      string
	port     uint16
	want     string // "+web/get -spy/tcp ..."
}

var matrix = []cell{
	// Defaults.
	{"", "allow", 80, "+web/get +spy/tcp +world/get +world6/tls +node/tcp"},
	{"", "authenticated", 80, "+web/get +spy/tcp -world/get -world6/tls -node/tcp -legacy/get"},
	{"", "audit", 80, "+web/get +world/get +world6/tls"},
	{"", "deny", 80, "-web/get -spy/tcp -world/get -db/grpc"},
	// Accounts, namespaces, identities.
	{"ALLOW pod sa:shop/web any", "allow", 80, "+web/get +web/grpc +web/tcp +web/tls -cart/get -spy/get -world/tcp -legacy/get -db/get"},
	{"ALLOW pod ns:shop any", "deny", 80, "+web/get +cart/tls -spy/tcp -world/get -legacy/get"},
	{"ALLOW pod id:" + trust + "shop/sa/web any", "allow", 80, "+web/tcp -cart/tcp -spy/tcp -world/tcp"},
	{"ALLOW pod id:" + trust + "shop/* any", "allow", 80, "+web/tcp +cart/get -spy/tcp -legacy/get"},
	{"ALLOW pod auth any", "allow", 80, "+web/get +spy/tcp -world/get -node/tls"},
	{"ALLOW pod plain any", "allow", 80, "-web/get +world/get +node/tls"},
	{"ALLOW pod none any", "allow", 80, "-web/get -world/tcp"},
	{"DENY pod none any", "allow", 80, "+web/get +world/tcp"},
	{"DENY pod ns:other any", "allow", 80, "+web/get -spy/get -spy/tcp -spy/grpc +world/get"},
	{"DENY pod sa:shop/web any", "allow", 80, "-web/tls +cart/tls"},
	{"DENY pod ns:shop any", "allow", 80, "-legacy/get -legacy/tcp +world/get"},
	{"DENY pod plain any", "allow", 80, "+web/get -world/get -node/tcp"},
	// Addresses.
	{"ALLOW pod cidr:192.0.2.0/24 any", "deny", 80, "+office/get +office/tcp +printer/tls -world/get -web/get"},
	{"ALLOW pod cidr:192.0.2.0/24+not:192.0.2.96/28 any", "deny", 80, "+office/get -printer/get"},
	{"ALLOW pod cidr:2001:db8::/32 any", "deny", 80, "+world6/get -world/get"},
	{"ALLOW pod cidr:172.18.0.3/32 any", "deny", 80, "+node/get -office/tls"},
	{"ALLOW pod sa:shop/web+cidr:10.244.1.0/24 any", "deny", 80, "+web/get -cart/get"},
	{"ALLOW pod sa:shop/web+cidr:10.9.0.0/16 any", "deny", 80, "-web/get"},
	// Requests.
	{"ALLOW pod any GET", "allow", 80, "+world/get -world/post -world/grpc -world/tcp -web/tls"},
	{"ALLOW pod sa:shop/web path:/api", "allow", 80, "+web/get -web/post -web/tcp -cart/get -web/dirty"},
	{"ALLOW pod any exact:/shop.Cart/Add+POST", "deny", 80, "+web/grpc -web/post -web/tls"},
	{"ALLOW pod any header:x-env=test", "deny", 80, "+web/get -web/post"},
	{"ALLOW pod any query:page=2", "deny", 80, "+web/get -web/post"},
	{"ALLOW pod any regex:/shop[.].*", "deny", 80, "+cart/grpc -cart/get"},
	{"DENY pod any path:/admin", "allow", 80, "+web/get -web/post +web/grpc -web/tcp -web/tls -web/dirty"},
	{"DENY pod ns:other path:/admin", "allow", 80, "+web/post +web/tcp -spy/post -spy/tcp +spy/get"},
	// Targets.
	{"DENY mesh sa:shop/web any", "allow", 80, "-web/get +cart/get"},
	{"DENY ns sa:shop/web any", "allow", 80, "-web/get +cart/get"},
	{"DENY foreign-ns sa:shop/web any", "allow", 80, "+web/get"},
	{"DENY foreign-pod sa:shop/web any", "allow", 80, "+web/get"},
	{"ALLOW foreign-pod sa:shop/web any", "deny", 80, "-web/get"},
	{"DENY nobody any any", "allow", 80, "+web/get +world/tcp"},
	{"ALLOW pod:80 sa:shop/web any", "allow", 80, "+web/get -cart/get"},
	{"ALLOW pod:80 sa:shop/web any", "allow", 81, "+web/get +cart/get +world/tcp"},
	{"ALLOW pod:80 sa:shop/web any", "deny", 81, "-web/get -cart/tcp"},
	{"DENY ports:80 any any", "allow", 80, "-web/get"},
	{"DENY ports:80 any any", "allow", 81, "+web/get"},
	// Together.
	{"ALLOW ns ns:shop any;DENY pod sa:shop/web any", "allow", 80, "-web/get +cart/get -spy/get"},
	{"ALLOW pod sa:shop/web any;ALLOW mesh sa:shop/cart any", "deny", 80, "+web/get +cart/tcp -spy/get"},
	{"DENY mesh plain any;ALLOW pod cidr:192.0.2.0/24 any", "allow", 80, "-office/get -world/get"},
	{"AUDIT pod any any", "allow", 80, "+web/get +world/tcp"},
	{"AUDIT pod any any", "deny", 80, "-web/get"},
	{"AUDIT pod any any;ALLOW pod sa:shop/web any", "allow", 80, "+web/get -cart/get"},
	// What is not known here.
	{"LATER pod sa:shop/web any", "allow", 80, "-web/get -cart/tcp"},
	{"ALLOW pod later any", "allow", 80, "-web/get -world/tcp"},
	{"DENY pod later any", "allow", 80, "-web/get -world/tcp"},
	{"ALLOW pod any later", "allow", 80, "-web/get"},
	{"DENY pod any later", "allow", 80, "-web/get"},
	{"ALLOW pod any kind9:/", "allow", 80, "-web/get"},
	{"DENY pod any kind9:/", "allow", 80, "-web/get"},
	{"ALLOW pod any regex:(", "allow", 80, "-web/get"},
	{"DENY pod any regex:a)|(b", "allow", 80, "-web/get"},
}

func TestMatrix(t *testing.T) {
	cases := 0
	for _, c := range matrix {
		def, err := mesh.ParseDefaultPolicy(c.def)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		if c.policies != "" {
			lines = strings.Split(c.policies, ";")
		}
		d := decider(def, lines...)
		for _, w := range strings.Fields(c.want) {
			cases++
			name, protocol, _ := strings.Cut(w[1:], "/")
			who, ok := clients[name]
			h, ok2 := protocols[protocol]
			if !ok || !ok2 {
				t.Fatalf("no such client or protocol: %s", w)
			}
			var r Request
			if h != nil {
				r = h
			}
			v, first := d.Request(&who, c.port, r), d.Connection(&who, c.port)
			if v.Allowed != (w[0] == '+') || v.By == nil {
				t.Errorf("%q, default %s, port %d, %s: %+v", c.policies, c.def, c.port, w, v)
			}
			if !first.NeedsRequest && first != v || v.Allowed && !first.Allowed {
				t.Errorf("%q, %s: the connection gets %+v, the request %+v", c.policies, w, first, v)
			}
		}
	}
	if cases < 150 {
		t.Errorf("the matrix has %d cases", cases)
	}
}
