package routing

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// holdsPlainly says the same as a condition of exact values, in the plainest way.
func holdsPlainly(m *mesh.Match, q *Request) bool {
	path, query, _ := strings.Cut(q.Path, "?")
	if want := strings.TrimSuffix(m.Path.Value, "/") + "/"; m.Path.Kind == mesh.PathPrefix && !strings.HasPrefix(path+"/", want) {
		return false
	}
	for _, h := range m.Headers {
		var all []string
		for _, f := range q.Fields {
			if strings.EqualFold(f.Name, h.Name) {
				all = append(all, f.Value)
			}
		}
		if len(all) == 0 || strings.Join(all, ", ") != h.Value {
			return false
		}
	}
	for _, p := range m.Query {
		found := false
		for pair := range strings.SplitSeq(query, "&") {
			key, value, _ := strings.Cut(pair, "=")
			if plain(key) == p.Name && pair != "" {
				found = plain(value) == p.Value
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func plain(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// Many names, in any case, repeated and escaped: the index finds what a walk over the order finds.
func TestNamesAndValues(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	found := 0
	for range 2000 {
		var matches []mesh.Match
		for range 1 + rnd.IntN(15) {
			m := mesh.Match{Path: prefix(pick("/", "/a", "/a/", "/a/b"))}
			for range rnd.IntN(2) {
				m.Headers = append(m.Headers, mesh.FieldMatch{Name: pick("x", "y", "x-z"), Value: pick("1", "2", "1, 2", "2, 1", "")})
			}
			for range rnd.IntN(2) {
				m.Query = append(m.Query, mesh.FieldMatch{Name: pick("x", "y z", "%x"), Value: pick("1", "2 ", "%2", "")})
			}
			matches = append(matches, m)
		}
		table := table(t, row(matches...))
		for range 20 {
			path := pick("/", "/a", "/a/b/c", "/ab", "/a/") + "?"
			for range rnd.IntN(4) {
				path += pick("x", "y+z", "y%20z", "%78", "%x", "%25x", "") + pick("=", "") + pick("1", "%31", "2+", "2%20", "%2", "%252", "") + pick("&", "&&")
			}
			q := request("GET", path)
			for range rnd.IntN(5) {
				q.Fields = append(q.Fields, request("GET", "/", pick("x", "X", "y", "Y", "X-Z"), pick("1", "2", "1, 2", "")).Fields...)
			}
			want := -1
			for i := range matches {
				if holdsPlainly(&matches[i], q) {
					want = i
					break
				}
			}
			got := -1
			if c := table.Match(q); c.Rule != nil {
				got = c.Index
			}
			if got != want {
				t.Fatalf("%+v of %+v: rule %d, a walk finds %d", *q, matches, got, want)
			}
			if got > 0 {
				found++
			}
		}
	}
	if found < 2000 {
		t.Errorf("only %d requests found a rule beyond the first", found)
	}
}

// byName makes n rules, each of which wants a field or a parameter of its own.
func byName(n int, of func(name string) mesh.Match) *mesh.PortRoutes {
	var m []mesh.Match
	for i := range n {
		one := of(fmt.Sprintf("x-name-%d", i))
		one.Path = prefix("/")
		m = append(m, one)
	}
	return row(m...)
}

func byHeader(name string) mesh.Match {
	return mesh.Match{Headers: []mesh.FieldMatch{{Name: name, Value: "a b, c"}}}
}

func byParameter(name string) mesh.Match {
	return mesh.Match{Query: []mesh.FieldMatch{{Name: name, Value: "a b"}}}
}

var ofNames = []*Request{
	request("GET", "/", "Accept", "*/*", "X-Name-9", "a b", "User-Agent", "curl", "x-name-9", "c"),
	request("GET", "/?l=en&x%2dname-9=a+b&v=full"),
}

func TestNamesCostNoMemory(t *testing.T) {
	for i, of := range []func(string) mesh.Match{byHeader, byParameter} {
		table := table(t, byName(1000, of))
		if c := table.Match(ofNames[i]); c.Rule == nil || c.Index != 9 {
			t.Fatalf("%v: %v", *ofNames[i], c.Rule)
		}
		if n := testing.AllocsPerRun(100, func() { table.Match(ofNames[i]) }); n != 0 {
			t.Errorf("%v: %v allocations", *ofNames[i], n)
		}
	}
}

func BenchmarkNames(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		for i, of := range []func(string) mesh.Match{byHeader, byParameter} {
			table := table(b, byName(n, of))
			b.Run(fmt.Sprintf("%s/%d", []string{"header", "query"}[i], n), func(b *testing.B) {
				for b.Loop() {
					table.Match(ofNames[i])
				}
			})
		}
	}
}
