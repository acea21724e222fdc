package l7

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

func TestRules(t *testing.T) {
	edit := func(name, value string) *mesh.FieldEdit {
		return &mesh.FieldEdit{Set: []mesh.FieldValue{{Name: name, Value: value}}}
	}
	v2 := to("v2")
	v2[0].Filters = mesh.Filters{Request: edit("X-Edit", "by backend"), Response: edit("X-App", "backend's")}
	broken := to("v2")
	broken[0].Broken = "no ReferenceGrant"
	row := httpRow(
		mesh.Rule{Title: "/v1", Backends: to("v1")},
		mesh.Rule{Title: "/edited", Backends: to("v1"), Filters: mesh.Filters{Request: edit("X-Edit", "by rule"), Response: edit("X-App", "rule's")}},
		mesh.Rule{Title: "/backend", Backends: v2},
		mesh.Rule{Title: "/rewritten", Backends: to("v1"), Filters: mesh.Filters{Rewrite: &mesh.Rewrite{Host: "other.test", Path: mesh.PathEdit{Kind: mesh.PathMatched, Value: "/new"}}}},
		mesh.Rule{Title: "/redirect", Filters: mesh.Filters{Redirect: &mesh.Redirect{Scheme: "https", Host: "there.test", Status: 301}}},
		mesh.Rule{Title: "/none"},
		mesh.Rule{Title: "/broken", Backends: broken},
		mesh.Rule{Title: "/missing", Backends: to("nobody")},
		mesh.Rule{Title: "/cors", Backends: to("v1"), Filters: mesh.Filters{CORS: &mesh.CORS{Origins: []string{"http://a.test"}, Methods: []string{"PUT"}}}},
	)
	tests := []struct {
		path, origin string
		status       int
		body         string // begins with
		app          string // X-App
		backend      string
	}{
		{"/v1/x?y=1", "", 200, `v1 POST svc.test/v1/x?y=1 "" 5`, "own", "v1"},
		{"/edited", "", 200, `v1 POST svc.test/edited "by rule" 5`, "rule's", "v1"},
		{"/backend", "", 200, `v2 POST svc.test/backend "by backend" 5`, "backend's", "v2"},
		{"/rewritten/x", "", 200, `v1 POST other.test/new/x "" 5`, "own", "v1"},
		{"/redirect/y", "", 301, "", "https://there.test/redirect/y", ""},
		{"/none", "", 500, "the rule has no backend", "", ""},
		{"/broken", "", 500, "the backend cannot be used", "", "v2"},
		{"/missing", "", 500, "the backend cannot be used", "", "nobody"},
		{"/else", "", 404, "no rule", "", ""},
		{"/cors", "http://a.test", 200, "v1 POST", "http://a.test", "v1"},
		{"/cors", "http://b.test", 200, "v1 POST", "own", "v1"},
	}
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			apps := map[string]net.Listener{}
			w := newWorld(t)
			for _, name := range []string{"svc", "v1", "v2"} {
				apps[name] = w.httpApp(saying(name))
			}
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, nil, apps)
			c := r.client(s.h2)
			for i, test := range tests {
				req := request1(t, "POST", test.path, strings.NewReader("hello"))
				if test.origin != "" {
					req.Header.Set("Origin", test.origin)
				}
				got := r.send(c, req)
				app := got.header.Get("X-App")
				if l := got.header.Get("Location"); l != "" {
					app = l
				}
				if o := got.header.Get("Access-Control-Allow-Origin"); o != "" {
					app = o
				}
				if got.status != test.status || !strings.HasPrefix(got.body, test.body) || app != test.app {
					t.Errorf("%s: %d %q %q, want %d %q %q", test.path, got.status, got.body, app, test.status, test.body, test.app)
				}
				rec := r.last(i + 1)
				if rec.Backend.Name != test.backend || rec.Status != test.status || (rec.Rule == nil) != (test.status == 404) {
					t.Errorf("%s: recorded %+v", test.path, rec)
				}
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	row := httpRow(mesh.Rule{Title: "/", Backends: to("svc"), Filters: mesh.Filters{CORS: &mesh.CORS{Origins: []string{"http://a.test"}, Methods: []string{"PUT", "PATCH"}}}})
	for _, s := range settings[:2] {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t)
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": w.httpApp(saying("svc"))})
			c := r.client(s.h2)
			req := request1(t, "OPTIONS", "/x", nil)
			req.Header.Set("Origin", "http://a.test")
			req.Header.Set("Access-Control-Request-Method", "PUT")
			got := r.send(c, req)
			if got.status != 204 || got.header.Get("Access-Control-Allow-Methods") != "PUT, PATCH" || got.body != "" {
				t.Errorf("%+v", got)
			}
			if got = r.get(c, "/x"); got.status != 200 {
				t.Errorf("behind it: %+v", got)
			}
		})
	}
}

// TestOwnAnswersKeepTheConnection: a body that nobody has read is between our answer and the next request.
func TestOwnAnswersKeepTheConnection(t *testing.T) {
	row := httpRow(mesh.Rule{Title: "/redirect", Filters: mesh.Filters{Redirect: &mesh.Redirect{Host: "there.test", Status: 302}}},
		mesh.Rule{Title: "/ok", Backends: to("svc")})
	w := newWorld(t)
	r := newRouted(t, false, mesh.HTTP1, row, nil, map[string]net.Listener{"svc": w.httpApp(saying("svc"))})
	c := dial(t, r.out)
	body := strings.Repeat("x", 100<<10)
	paths := []string{"/redirect", "/nothing", "/redirect", "/ok"}
	var all strings.Builder
	for _, path := range paths {
		all.WriteString("POST " + path + " HTTP/1.1\r\nHost: svc.test\r\nContent-Length: 102400\r\n\r\n" + body)
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { _, _ = c.Write([]byte(all.String())) })
	from := bufio.NewReader(c)
	for _, path := range paths {
		want := map[string]int{"/redirect": 302, "/nothing": 404, "/ok": 200}[path]
		resp, err := http.ReadResponse(from, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s: %v, %v, want %d", path, resp, err, want)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// TestServiceOfTheBackend: the receiving proxy is told whom its pod is dialled for.
func TestServiceOfTheBackend(t *testing.T) {
	w := newWorld(t)
	r := newRouted(t, true, mesh.HTTP1, httpRow(mesh.Rule{Title: "/", Backends: to("v2")}), nil, map[string]net.Listener{"v2": w.httpApp(saying("v2"))})
	r.get(r.client(false), "/")
	eventually(t, "the backend's name at its node", func() bool {
		r.behind.mu.Lock()
		defer r.behind.mu.Unlock()
		return len(r.behind.requests) == 1 && r.behind.requests[0].Service == mesh.Name{Namespace: "test", Name: "v2"}
	})
}

func TestRulesChangeWhileAConnectionLives(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t)
			r := newRouted(t, s.inMesh, mesh.HTTP1, nil, nil, map[string]net.Listener{"svc": w.httpApp(saying("svc")), "v2": w.httpApp(saying("v2"))})
			c := r.client(s.h2)
			for i, want := range []string{"svc", "v2", "svc"} {
				switch i {
				case 1:
					r.set(httpRow(mesh.Rule{Title: "/", Backends: to("v2")}))
				case 2:
					r.live.Set(nil)
				}
				if got := r.get(c, "/"); got.status != http.StatusOK || !strings.HasPrefix(got.body, want) {
					t.Errorf("%+v, want one of %s", got, want)
				}
			}
		})
	}
}
