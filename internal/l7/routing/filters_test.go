package routing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func filters(t testing.TB, f mesh.Filters) *Filters {
	t.Helper()
	out, err := newFilters(&f)
	if err != nil {
		t.Fatal(err)
	}
	return &out
}

func head(path string, fields ...string) *exchange.Head {
	h := &exchange.Head{Method: "GET", Scheme: "http", Authority: "svc.test", Path: path}
	h.Fields = request("", "", fields...).Fields
	return h
}

func shown(fields []exchange.Field) string {
	var out []string
	for _, f := range fields {
		out = append(out, f.Name+": "+f.Value)
	}
	return strings.Join(out, ", ")
}

func TestHeaders(t *testing.T) {
	value := func(pairs ...string) (out []mesh.FieldValue) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, mesh.FieldValue{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	for _, tt := range []struct {
		name string
		e    mesh.FieldEdit
		want string
	}{
		{"nothing", mesh.FieldEdit{}, "X-A: 1, b: 2, x-a: 3"},
		{"set", mesh.FieldEdit{Set: value("x-A", "9")}, "b: 2, x-A: 9"},
		{"set what is not there", mesh.FieldEdit{Set: value("c", "9")}, "X-A: 1, b: 2, x-a: 3, c: 9"},
		{"add", mesh.FieldEdit{Add: value("B", "9")}, "X-A: 1, b: 2, x-a: 3, B: 9"},
		{"remove", mesh.FieldEdit{Remove: []string{"X-a", "none"}}, "b: 2"},
		{"all", mesh.FieldEdit{Set: value("b", "8"), Add: value("d", "7"), Remove: []string{"x-a"}}, "d: 7, b: 8"},
		{"not a filter's to touch", mesh.FieldEdit{Set: value("Content-Length", "0", "Host", "x", "Connection", "b", "te", "x", "Fairlead-Service", "y"),
			Add: value("Transfer-Encoding", "chunked"), Remove: []string{"content-length", "host", "fairlead-version"}}, "X-A: 1, b: 2, x-a: 3"},
	} {
		f := filters(t, mesh.Filters{Request: &tt.e, Response: &tt.e})
		for dir, apply := range map[string]func(*exchange.Head){"request": func(h *exchange.Head) { f.Request(h, "") }, "response": f.Response} {
			h := head("/", "X-A", "1", "b", "2", "x-a", "3")
			if apply(h); shown(h.Fields) != tt.want {
				t.Errorf("%s, %s: %s, want %s", tt.name, dir, shown(h.Fields), tt.want)
			}
		}
	}
	none := filters(t, mesh.Filters{})
	h := head("/a", "x", "1")
	none.Request(h, "/")
	none.Response(h)
	if none.ChangesResponse() || shown(h.Fields) != "x: 1" || h.Path != "/a" || h.Authority != "svc.test" {
		t.Errorf("no filters: %+v", h)
	}
	if n := testing.AllocsPerRun(100, func() { none.Request(h, "/"); none.Response(h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRewrite: the examples of the Gateway API's HTTPPathModifier, and what stands beside them.
func TestRewrite(t *testing.T) {
	matched := func(v string) mesh.PathEdit { return mesh.PathEdit{Kind: mesh.PathMatched, Value: v} }
	full := func(v string) mesh.PathEdit { return mesh.PathEdit{Kind: mesh.PathFull, Value: v} }
	for _, tt := range []struct {
		path, prefix string
		edit         mesh.PathEdit
		want         string
	}{
		{"/foo/bar", "/foo", matched("/xyz"), "/xyz/bar"},
		{"/foo/bar", "/foo", matched("/xyz/"), "/xyz/bar"},
		{"/foo/bar", "/foo/", matched("/xyz"), "/xyz/bar"},
		{"/foo/bar", "/foo/", matched("/xyz/"), "/xyz/bar"},
		{"/foo", "/foo", matched("/xyz"), "/xyz"},
		{"/foo/", "/foo", matched("/xyz"), "/xyz/"},
		{"/foo/bar", "/foo", matched(""), "/bar"},
		{"/foo/", "/foo", matched(""), "/"},
		{"/foo", "/foo", matched(""), "/"},
		{"/foo/", "/foo", matched("/"), "/"},
		{"/foo", "/foo", matched("/"), "/"},
		{"/foo/bar?a=/foo", "/foo", matched("/x"), "/x/bar?a=/foo"},
		{"/foo/bar?", "/foo", matched("/x"), "/x/bar?"},
		{"/foo/bar", "/", matched("/x"), "/x/foo/bar"},
		{"/foo/bar", "/other", matched("/x"), "/foo/bar"},
		{"/foo/bar?q=1", "", full("/one"), "/one?q=1"},
		{"/foo/bar", "/foo", full(""), "/"},
		{"/foo/bar", "/foo", mesh.PathEdit{}, "/foo/bar"},
	} {
		h := head(tt.path)
		filters(t, mesh.Filters{Rewrite: &mesh.Rewrite{Host: "other.test", Path: tt.edit}}).Request(h, tt.prefix)
		if h.Path != tt.want || h.Authority != "other.test" {
			t.Errorf("%s with %s by %+v: %s at %s, want %s", tt.path, tt.prefix, tt.edit, h.Path, h.Authority, tt.want)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, tt := range []struct {
		r    mesh.Redirect
		at   string
		port uint16
		want string
	}{
		{mesh.Redirect{}, "svc.test", 80, "302 http://svc.test/foo/bar?q"},
		{mesh.Redirect{}, "svc.test:8080", 8080, "302 http://svc.test:8080/foo/bar?q"},
		{mesh.Redirect{}, "svc.test:1234", 80, "302 http://svc.test/foo/bar?q"},
		{mesh.Redirect{Status: 308}, "svc.test", 80, "308 http://svc.test/foo/bar?q"},
		{mesh.Redirect{Host: "example.org"}, "svc.test:8080", 8080, "302 http://example.org:8080/foo/bar?q"},
		{mesh.Redirect{Scheme: "https"}, "svc.test", 80, "302 https://svc.test/foo/bar?q"},
		{mesh.Redirect{Scheme: "https"}, "svc.test:8080", 8080, "302 https://svc.test/foo/bar?q"},
		{mesh.Redirect{Scheme: "http"}, "svc.test:8080", 8080, "302 http://svc.test/foo/bar?q"},
		{mesh.Redirect{Scheme: "https", Port: 8443}, "svc.test", 80, "302 https://svc.test:8443/foo/bar?q"},
		{mesh.Redirect{Scheme: "https", Port: 443}, "svc.test", 80, "302 https://svc.test/foo/bar?q"},
		{mesh.Redirect{Port: 80}, "svc.test:8080", 8080, "302 http://svc.test/foo/bar?q"},
		{mesh.Redirect{Port: 8083}, "svc.test", 80, "302 http://svc.test:8083/foo/bar?q"},
		{mesh.Redirect{Scheme: "https", Port: 80}, "svc.test", 80, "302 https://svc.test:80/foo/bar?q"},
		{mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathFull, Value: "/x"}}, "svc.test", 80, "302 http://svc.test/x?q"},
		{mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathMatched, Value: "/x"}}, "svc.test", 80, "302 http://svc.test/x/bar?q"},
		{mesh.Redirect{}, "[fd00::1]:8080", 8080, "302 http://[fd00::1]:8080/foo/bar?q"},
		{mesh.Redirect{}, "[fd00::1]", 80, "302 http://[fd00::1]/foo/bar?q"},
	} {
		h := head("/foo/bar?q")
		h.Authority = tt.at
		status, location, ok := filters(t, mesh.Filters{Redirect: &tt.r}).Redirect(h, tt.port, "/foo")
		if got := fmt.Sprint(status, " ", location); !ok || got != tt.want {
			t.Errorf("%+v at %s: %s, want %s", tt.r, tt.at, got, tt.want)
		}
	}
	if _, _, ok := filters(t, mesh.Filters{}).Redirect(head("/"), 80, "/"); ok {
		t.Error("a redirect without a filter")
	}
}

func TestCORS(t *testing.T) {
	all := mesh.CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Expose: []string{"x-a", "x-b"}, MaxAge: time.Minute}
	some := mesh.CORS{Origins: []string{"https://a.test", "https://*.b.test", "http://c.test:8080"}, Methods: []string{"GET", "PUT"}, Headers: []string{"x-h"}, Credentials: true}
	star := mesh.CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}, Credentials: true}
	for _, tt := range []struct {
		name             string
		c                mesh.CORS
		origin           string
		preflight, plain string
	}{
		{"everybody", all, "https://x.test", "access-control-allow-origin: *, access-control-expose-headers: x-a, x-b, access-control-allow-methods: *, access-control-allow-headers: *, access-control-max-age: 60",
			"access-control-allow-origin: *, access-control-expose-headers: x-a, x-b"},
		{"one", some, "https://a.test", "access-control-allow-origin: https://a.test, vary: Origin, access-control-allow-credentials: true, access-control-allow-methods: GET, PUT, access-control-allow-headers: x-h, access-control-max-age: 5",
			"access-control-allow-origin: https://a.test, vary: Origin, access-control-allow-credentials: true"},
		{"a star with credentials", star, "https://a.test", "access-control-allow-origin: https://a.test, vary: Origin, access-control-allow-credentials: true, access-control-allow-methods: PATCH, access-control-allow-headers: x-q, access-control-max-age: 5",
			"access-control-allow-origin: https://a.test, vary: Origin, access-control-allow-credentials: true"},
		{"another", some, "https://d.test", "vary: Origin", ""},
		{"without its port", some, "http://c.test", "vary: Origin", ""},
		{"another scheme", some, "http://a.test", "vary: Origin", ""},
		{"null", some, "null", "vary: Origin", ""},
	} {
		f := filters(t, mesh.Filters{CORS: &tt.c})
		h := head("/", "Origin", tt.origin, "access-control-request-method", "PATCH", "access-control-request-headers", "x-q")
		if _, ok := f.Preflight(h); ok {
			t.Errorf("%s: a GET is no preflight", tt.name)
		}
		h.Method = "OPTIONS"
		if fields, ok := f.Preflight(h); !ok || shown(fields) != tt.preflight {
			t.Errorf("%s: preflight %t %s, want %s", tt.name, ok, shown(fields), tt.preflight)
		}
		if fields := f.CORS(h); shown(fields) != tt.plain {
			t.Errorf("%s: %s, want %s", tt.name, shown(fields), tt.plain)
		}
	}
	f := filters(t, mesh.Filters{CORS: &some})
	h := head("/", "origin", "https://a.test")
	h.Method = "OPTIONS"
	if _, ok := f.Preflight(h); ok {
		t.Error("OPTIONS alone is no preflight")
	}
	if fields := f.CORS(head("/")); fields != nil {
		t.Errorf("without an origin: %s", shown(fields))
	}
	for origin, want := range map[string]bool{"https://x.b.test": true, "https://x.y.b.test": true, "https://b.test": false, "https://.b.test": false, "https://evil.test/.b.test": false,
		"https://evil@x.b.test": false, "https://X.B.test": true, "https://x:1.b.test": false, "https://xb.test": false} {
		if got := filters(t, mesh.Filters{CORS: &some}).CORS(head("/", "origin", origin)) != nil; got != want {
			t.Errorf("origin %s: %t", origin, got)
		}
	}
}

func FuzzFilters(f *testing.F) {
	f.Add("/foo/bar?q", "svc.test:80", "/foo", "/x", "https://a.test")
	f.Add("", "", "", "", "")
	f.Fuzz(func(t *testing.T, path, authority, prefix, to, origin string) {
		all := filters(t, mesh.Filters{Rewrite: &mesh.Rewrite{Path: mesh.PathEdit{Kind: mesh.PathMatched, Value: to}}, CORS: &mesh.CORS{Origins: []string{"https://*.test", "*://x", "*"}, Credentials: true}})
		moved := filters(t, mesh.Filters{Redirect: &mesh.Redirect{Path: mesh.PathEdit{Kind: mesh.PathMatched, Value: to}}})
		h := head(path, "origin", origin, "access-control-request-method", to)
		h.Authority = authority
		moved.Redirect(h, 81, prefix)
		all.CORS(h)
		all.Request(h, prefix)
		if is, was := strings.HasPrefix(h.Path, "/"), strings.HasPrefix(path, "/"); is != was || !was && h.Path != path {
			t.Errorf("path %q of %q", h.Path, path)
		}
	})
}
