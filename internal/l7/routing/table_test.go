package routing

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func nobody(mesh.Name, uint16) *balance.Cluster { return nil }

// row makes a row whose matches are each a rule's.
func row(matches ...mesh.Match) *mesh.PortRoutes {
	p := &mesh.PortRoutes{Port: 80, Kind: mesh.HTTPRoute}
	for i, m := range matches {
		p.Rules = append(p.Rules, mesh.Rule{Kind: mesh.HTTPRoute, Index: i})
		p.Order = append(p.Order, mesh.RuleMatch{Rule: i, Match: m})
	}
	return p
}

func table(t testing.TB, p *mesh.PortRoutes) *Table {
	t.Helper()
	made, err := New(p, nobody)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func request(method, path string, fields ...string) *Request {
	q := &Request{Method: method, Path: path}
	for i := 0; i < len(fields); i += 2 {
		q.Fields = append(q.Fields, exchange.Field{Name: fields[i], Value: fields[i+1]})
	}
	return q
}

func exact(path string) mesh.PathMatch  { return mesh.PathMatch{Kind: mesh.PathExact, Value: path} }
func prefix(path string) mesh.PathMatch { return mesh.PathMatch{Kind: mesh.PathPrefix, Value: path} }
func regex(path string) mesh.PathMatch  { return mesh.PathMatch{Kind: mesh.PathRegex, Value: path} }

// TestMatch: each kind of condition, alone.
func TestMatch(t *testing.T) {
	header := func(name, value string, re bool) mesh.Match {
		return mesh.Match{Headers: []mesh.FieldMatch{{Name: name, Value: value, Regex: re}}}
	}
	query := func(name, value string, re bool) mesh.Match {
		return mesh.Match{Query: []mesh.FieldMatch{{Name: name, Value: value, Regex: re}}}
	}
	get := func(path string, fields ...string) *Request { return request("GET", path, fields...) }
	for _, tt := range []struct {
		name string
		m    mesh.Match
		yes  []*Request
		no   []*Request
	}{
		{"nothing", mesh.Match{}, []*Request{get("/"), get("*"), get(""), get("/a?b=c")}, nil},
		{"exact", mesh.Match{Path: exact("/a")}, []*Request{get("/a"), get("/a?x")}, []*Request{get("/a/"), get("/A"), get("/"), get("/ab")}},
		{"prefix", mesh.Match{Path: prefix("/a")}, []*Request{get("/a"), get("/a/"), get("/a/b"), get("/a//"), get("/a?b")}, []*Request{get("/ab"), get("/"), get("/b/a")}},
		{"prefix with a slash", mesh.Match{Path: prefix("/a/")}, []*Request{get("/a"), get("/a/"), get("/a/b")}, []*Request{get("/ab")}},
		{"two elements", mesh.Match{Path: prefix("/a/b")}, []*Request{get("/a/b"), get("/a/b/c")}, []*Request{get("/a"), get("/a/bc"), get("/a//b")}},
		{"everything", mesh.Match{Path: prefix("/")}, []*Request{get("/"), get("*"), get("/x/y"), get("")}, nil},
		{"expression", mesh.Match{Path: regex("/v[0-9]+|/x")}, []*Request{get("/v1"), get("/v22"), get("/x"), get("/v1?a")}, []*Request{get("/v"), get("/v1/"), get("a/v1")}},
		{"method", mesh.Match{Method: "PUT"}, []*Request{request("PUT", "/")}, []*Request{get("/"), request("put", "/")}},
		{"header", header("x-a", "1", false), []*Request{get("/", "X-A", "1"), get("/", "y", "2", "x-a", "1")}, []*Request{get("/"), get("/", "x-a", "2"), get("/", "x-a", "1", "X-A", "1")}},
		{"headers of one name", header("x-a", "1, 2", false), []*Request{get("/", "X-A", "1", "x-a", "2"), get("/", "x-a", "1, 2")}, []*Request{get("/", "x-a", "2", "x-a", "1")}},
		{"no value", header("x-a", "", false), []*Request{get("/", "X-A", "")}, []*Request{get("/")}},
		{"expression of a header", header("x-a", "a.*|b", true), []*Request{get("/", "x-a", "abc"), get("/", "X-a", "b")}, []*Request{get("/", "x-a", "xa"), get("/", "x-a", "bb"), get("/")}},
		{"parameter", query("q", "a b", false), []*Request{get("/?q=a%20b"), get("/?x=1&q=a+b"), get("/?q=a+b&q=c"), get("/?%71=a+b")}, []*Request{get("/"), get("/?q=c&q=a+b"), get("/?Q=a+b"), get("/?q")}},
		{"parameter without a value", query("q", "", false), []*Request{get("/?q"), get("/?q="), get("/?a&q&b")}, []*Request{get("/?"), get("/?r")}},
		{"badly escaped", query("q", "%zz", false), []*Request{get("/?q=%zz")}, []*Request{get("/?q=zz")}},
		{"expression of a parameter", query("q", "[ab]+", true), []*Request{get("/?q=abba")}, []*Request{get("/?q=abc"), get("/?q=")}},
		{"all together", mesh.Match{Path: prefix("/a"), Method: "GET", Headers: []mesh.FieldMatch{{Name: "x", Value: "1"}, {Name: "y", Value: "2"}}, Query: []mesh.FieldMatch{{Name: "q", Value: "3"}}},
			[]*Request{get("/a/b?q=3", "x", "1", "y", "2")},
			[]*Request{get("/b?q=3", "x", "1", "y", "2"), get("/a?q=4", "x", "1", "y", "2"), get("/a?q=3", "x", "1"), request("PUT", "/a?q=3", "x", "1", "y", "2")}},
	} {
		table := table(t, row(tt.m))
		for _, q := range tt.yes {
			if table.Match(q).Rule == nil {
				t.Errorf("%s: %v is not matched", tt.name, *q)
			}
		}
		for _, q := range tt.no {
			if table.Match(q).Rule != nil {
				t.Errorf("%s: %v is matched", tt.name, *q)
			}
		}
	}
}

// TestTheFirstThatHolds: what the index finds is what a walk finds, for tables and requests at random of few words, so that much
// matches much.
func TestTheFirstThatHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	path := func() string {
		var b strings.Builder
		for range 1 + random.IntN(3) {
			b.WriteString(pick("/a", "/b", "/ab", "/", ""))
		}
		return "/" + b.String()
	}
	fields := func() (out []mesh.FieldMatch) {
		for range random.IntN(3) {
			out = append(out, mesh.FieldMatch{Name: pick("x", "y"), Value: pick("1", "2", "[12]"), Regex: random.IntN(3) == 0})
		}
		return out
	}
	found := 0
	for range 3000 {
		var matches []mesh.Match
		for range 1 + random.IntN(12) {
			m := mesh.Match{Method: pick("", "", "GET", "PUT"), Headers: fields(), Query: fields()}
			switch random.IntN(5) {
			case 0:
				m.Path = exact(path())
			case 1, 2:
				m.Path = prefix(path())
			case 3:
				m.Path = regex(pick("/a.*", "/b", ".*b"))
			}
			matches = append(matches, m)
		}
		table := table(t, row(matches...))
		for range 20 {
			q := request(pick("GET", "PUT", "POST"), path()+pick("", "?x=1", "?y=2&x=1", "?x=2&x=1&y"))
			for range random.IntN(4) {
				q.Fields = append(q.Fields, exchange.Field{Name: pick("x", "X", "y", "z"), Value: pick("1", "2", "3")})
			}
			p, query, _ := strings.Cut(q.Path, "?")
			want := slices.IndexFunc(table.order, func(c condition) bool { return c.holds(q, p, query) })
			got := -1
			if c := table.Match(q); c.Rule != nil {
				got = c.Index
				found++
			}
			if got != want {
				t.Fatalf("%+v of %+v: rule %d, a walk finds %d", *q, matches, got, want)
			}
		}
	}
	if found < 10000 {
		t.Errorf("only %d requests were matched at all", found)
	}
}

func TestNames(t *testing.T) {
	p := row(mesh.Match{SNI: "a.test"}, mesh.Match{SNI: "*.b.test"}, mesh.Match{SNI: "*.test"})
	table1 := table(t, p)
	all := table(t, row(mesh.Match{}))
	for name, want := range map[string]int{"a.test": 0, "A.Test": 0, "x.b.test": 1, "x.y.b.test": 1, "b.test": 2, "test": -1, "": -1, ".test": -1, "xb.test": 2} {
		got := -1
		if r := table1.MatchName(name); r != nil {
			got = r.Index
		}
		if got != want {
			t.Errorf("%q: rule %d, want %d", name, got, want)
		}
		if all.MatchName(name) == nil {
			t.Errorf("%q is not matched by a rule for every name", name)
		}
	}
}

func TestWhatCannotBe(t *testing.T) {
	for want, p := range map[string]*mesh.PortRoutes{
		"path: ":               row(mesh.Match{Path: regex("(")}),
		"unsupported Perl":     row(mesh.Match{Path: regex("(?i")}),
		"at most 4096":         row(mesh.Match{Path: regex(strings.Repeat("a", 4097))}),
		"unexpected )":         row(mesh.Match{Path: regex("a)|(?:b")}),
		"header x: ":           row(mesh.Match{Headers: []mesh.FieldMatch{{Name: "x", Value: "[", Regex: true}}}),
		"query parameter q: ":  row(mesh.Match{Query: []mesh.FieldMatch{{Name: "q", Value: "*", Regex: true}}}),
		"there is no rule 1":   {Order: []mesh.RuleMatch{{Rule: 1}}, Rules: make([]mesh.Rule, 1)},
		"there is no rule -1":  {Order: []mesh.RuleMatch{{Rule: -1}}, Rules: make([]mesh.Rule, 1)},
		`"a b" is no header`:   {Rules: []mesh.Rule{{Filters: mesh.Filters{Request: &mesh.FieldEdit{Set: []mesh.FieldValue{{Name: "a b"}}}}}}},
		"response headers: ":   {Rules: []mesh.Rule{{Filters: mesh.Filters{Response: &mesh.FieldEdit{Add: []mesh.FieldValue{{Name: "a", Value: "\n"}}}}}}},
		"redirect and a rewri": {Rules: []mesh.Rule{{Backends: []mesh.Backend{{Filters: mesh.Filters{Redirect: &mesh.Redirect{}, Rewrite: &mesh.Rewrite{}}}}}}},
	} {
		if _, err := New(p, nobody); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// TestPick: shares are what the weights say, and whoever has none gets none.
func TestPick(t *testing.T) {
	p := &mesh.PortRoutes{Rules: []mesh.Rule{{Backends: []mesh.Backend{{Weight: 0, Port: 1}, {Weight: 70, Port: 2}, {Weight: 30, Port: 3, Broken: "gone"}, {Weight: 0, Port: 4}}}}}
	asked := map[uint16]bool{}
	c := balance.New(balance.Config{})
	made, err := New(p, func(_ mesh.Name, port uint16) *balance.Cluster { asked[port] = true; return c })
	if err != nil {
		t.Fatal(err)
	}
	if asked[3] {
		t.Error("endpoints of a broken backend were asked for")
	}
	r, n := made.Rules[0], map[uint16]int{}
	const draws = 100_000
	for i := range draws {
		n[r.Pick(uint32(uint64(i)<<32/draws)).Port]++
	}
	if n[1]+n[4] != 0 || n[2] < 69_990 || n[2] > 70_010 || n[2]+n[3] != draws {
		t.Errorf("draws: %v", n)
	}
	if b := r.Pick(1<<32 - 1); b.Port != 3 || b.Cluster != nil || r.Backends[1].Cluster != c {
		t.Errorf("the last draw: %+v", b)
	}
	none := &mesh.PortRoutes{Rules: []mesh.Rule{{Backends: []mesh.Backend{{Weight: 0}}}, {}}}
	for _, r := range table(t, none).Rules {
		if b := r.Pick(7); b != nil {
			t.Errorf("without weights: %+v", b)
		}
	}
	m := MirrorTo{Mirror: &mesh.Mirror{Part: 1, Of: 4}}
	yes := 0
	for i := range 1000 {
		if m.Draws(uint32(i << 22)) {
			yes++
		}
	}
	if yes != 256 {
		t.Errorf("%d of 1000 copies were drawn", yes)
	}
}

// rules makes n rules as a large application has them: paths, some with headers and methods, and one for all the rest.
func rules(n int) *mesh.PortRoutes {
	var m []mesh.Match
	for i := range n - 1 {
		switch i % 4 {
		case 0:
			m = append(m, mesh.Match{Path: exact(fmt.Sprintf("/api/v1/exact/%d", i))})
		case 1:
			m = append(m, mesh.Match{Path: prefix(fmt.Sprintf("/api/v1/things/%d", i)), Method: "GET"})
		case 2:
			m = append(m, mesh.Match{Path: prefix("/api/v1/tenants"), Headers: []mesh.FieldMatch{{Name: "x-tenant", Value: fmt.Sprint(i)}}})
		case 3:
			m = append(m, mesh.Match{Path: prefix("/search"), Query: []mesh.FieldMatch{{Name: "shard", Value: fmt.Sprint(i)}}})
		}
	}
	return row(append(m, mesh.Match{Path: prefix("/")})...)
}

func asked(n int) []*Request {
	last := (n - 2) / 4 * 4
	fields := []string{"accept", "*/*", "user-agent", "curl/8", "x-request-id", "1", "X-Tenant", fmt.Sprint(last - 2), "traceparent", "00-1"}
	return []*Request{
		request("GET", fmt.Sprintf("/api/v1/exact/%d?view=full", last), fields...),
		request("GET", fmt.Sprintf("/api/v1/things/%d/parts/7", last-3), fields...),
		request("GET", "/api/v1/tenants/here", fields...),
		request("GET", fmt.Sprintf("/search/all?lang=en&shard=%d", last-1), fields...),
		request("POST", "/somewhere/else/altogether", fields...),
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	table := table(t, rules(1000))
	for _, q := range asked(1000) {
		if c := table.Match(q); c.Rule == nil {
			t.Errorf("%s %s is not matched", q.Method, q.Path)
		}
		if n := testing.AllocsPerRun(100, func() { table.Match(q) }); n != 0 {
			t.Errorf("%s %s: %v allocations", q.Method, q.Path, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, all := table(b, rules(n)), asked(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Match(all[i%len(all)])
			}
		})
	}
}

func FuzzMatch(f *testing.F) {
	table := table(f, rules(40))
	f.Add("GET", "/api/v1/exact/4?shard=3&%zz", "x-tenant", "2")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, method, path, name, value string) {
		q := request(method, path, name, value, "X-Tenant", value)
		p, query, _ := strings.Cut(path, "?")
		want := slices.IndexFunc(table.order, func(c condition) bool { return c.holds(q, p, query) })
		if c := table.Match(q); (c.Rule == nil) != (want < 0) || want >= 0 && c.Index != want {
			t.Errorf("%q: a walk finds %d", path, want)
		}
	})
}
