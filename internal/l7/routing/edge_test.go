package routing

import (
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func filtersOf(t *testing.T, from mesh.Filters) *Filters {
	t.Helper()
	f, err := newFilters(&from)
	if err != nil {
		t.Fatal(err)
	}
	return &f
}

func fieldsOf(pairs ...string) (out []exchange.Field) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, exchange.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func preflight(t *testing.T, c mesh.CORS, origin string) map[string]string {
	t.Helper()
	got, ok := filtersOf(t, mesh.Filters{CORS: &c}).Preflight(&exchange.Head{Method: "OPTIONS",
		Fields: fieldsOf("Origin", origin, "Access-Control-Request-Method", "GET")})
	if !ok {
		t.Fatal("a preflight was not answered")
	}
	out := map[string]string{}
	for _, f := range got {
		if out[f.Name] != "" || f.Value == "" {
			t.Errorf("%s %q beside %q", f.Name, f.Value, out[f.Name])
		}
		out[f.Name] = f.Value
	}
	return out
}

func TestPreflightOfEdges(t *testing.T) {
	listed := mesh.CORS{Origins: []string{"https://www.foo.com", "https://*.bar.com:443", "http://odd.com:81"},
		Methods: []string{"GET"}, Expose: []string{"x-3", "x-4"}, MaxAge: time.Hour}
	if got := preflight(t, listed, "https://www.foo.com"); got["access-control-expose-headers"] != "x-3, x-4" || got["access-control-max-age"] != "3600" {
		t.Errorf("%v", got)
	}
	for origin, want := range map[string]bool{
		"https://www.foo.com:443": true, "https://a.b.bar.com": true, "https://bar.com": false, "https://www.foo.com:444": false,
		"http://www.foo.com": false, "http://odd.com": false, "http://odd.com:81": true, "https://xbar.com": false, "null": false, "": false,
	} {
		got := preflight(t, listed, origin)
		if (got["access-control-allow-origin"] == origin && origin != "") != want {
			t.Errorf("%q: %v", origin, got)
		}
		if got["vary"] != "Origin" {
			t.Errorf("%q: no Vary: a cache would give the answer to others: %v", origin, got)
		}
	}
	all := []string{"*"}
	got := preflight(t, mesh.CORS{Origins: all, Expose: all, Headers: all, Credentials: true}, "https://a.b")
	if _, has := got["access-control-expose-headers"]; has || got["access-control-max-age"] != "5" || got["access-control-allow-origin"] != "https://a.b" {
		t.Errorf("with credentials: %v", got)
	}
}

func TestPathsOfEdges(t *testing.T) {
	rewrite := func(kind mesh.PathEditKind, value, path string) string {
		h := exchange.Head{Path: path}
		filtersOf(t, mesh.Filters{Rewrite: &mesh.Rewrite{Path: mesh.PathEdit{Kind: kind, Value: value}}}).Request(&h, "/foo")
		return h.Path
	}
	for _, c := range []struct {
		kind              mesh.PathEditKind
		value, path, want string
	}{
		{mesh.PathFull, "/x", "*", "*"}, {mesh.PathFull, "/x", "", ""}, {mesh.PathFull, "", "/foo?a", "/?a"},
		{mesh.PathFull, "/a b\r\nX: y?z#é%20", "/foo?q", "/a%20b%0D%0AX:%20y%3Fz%23%C3%A9%20?q"},
		{mesh.PathMatched, "/x//", "/foo/bar", "/x/bar"}, {mesh.PathMatched, "/a b", "/foo/bar?c d", "/a%20b/bar?c d"},
	} {
		if got := rewrite(c.kind, c.value, c.path); got != c.want {
			t.Errorf("%q by %q: %q, want %q", c.path, c.value, got, c.want)
		}
	}
}

func TestRedirectsOfEdges(t *testing.T) {
	for _, c := range []struct {
		r          mesh.Redirect
		host, path string
		want       string
	}{
		{mesh.Redirect{Scheme: "HTTPS"}, "h:8080", "/p?q", "https://h/p?q"},
		{mesh.Redirect{Scheme: "https"}, "h", "*", "https://h/"},
		{mesh.Redirect{}, "", "//evil.example/p", "/evil.example/p"},
		{mesh.Redirect{}, "[::1]:9", "/p", "http://[::1]:8080/p"},
		{mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathFull, Value: "/a\nSet-Cookie: b"}}, "h", "/p?q", "http://h:8080/a%0ASet-Cookie:%20b?q"},
	} {
		_, got, ok := filtersOf(t, mesh.Filters{Redirect: &c.r}).Redirect(&exchange.Head{Scheme: "http", Authority: c.host, Path: c.path}, 8080, "")
		if !ok || got != c.want || strings.ContainsAny(got, "\r\n") {
			t.Errorf("%+v of %s %s: %s, want %s", c.r, c.host, c.path, got, c.want)
		}
	}
}
