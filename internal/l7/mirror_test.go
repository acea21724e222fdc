package l7

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

func mirrored(part, of uint32, names ...string) *mesh.PortRoutes {
	rule := mesh.Rule{Title: "/", Backends: to("svc"), Filters: mesh.Filters{Request: &mesh.FieldEdit{Set: []mesh.FieldValue{{Name: "X-Edit", Value: "1"}}}}}
	for _, b := range to(names...) {
		rule.Filters.Mirrors = append(rule.Filters.Mirrors, mesh.Mirror{Backend: b, Part: part, Of: of})
	}
	return httpRow(rule)
}

// seen keeps what a mirror got.
type seen struct {
	mu  sync.Mutex // protects all
	all []string
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.all = append(s.all, fmt.Sprintf("%s %s %s %d", r.Method, r.URL.Path, r.Header.Get("X-Edit"), len(b)))
	s.mu.Unlock()
	w.WriteHeader(500)
	_, _ = w.Write(make([]byte, 1<<20)) // which nobody reads
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func TestMirror(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			a, b := &seen{}, &seen{}
			w := newWorld(t)
			r := newRouted(t, s.inMesh, mesh.HTTP1, mirrored(1, 1, "a", "b"), nil,
				map[string]net.Listener{"svc": w.httpApp(saying("svc")), "a": w.httpApp(a.ServeHTTP), "b": w.httpApp(b.ServeHTTP)})
			c := r.client(s.h2)
			for i, size := range []int{0, 5, 60 << 10} {
				got := r.send(c, request1(t, "POST", "/m", strings.NewReader(strings.Repeat("x", size))))
				if got.status != 200 || !strings.HasSuffix(got.body, fmt.Sprint(size)) {
					t.Errorf("%+v", got)
				}
				if rec := r.last(i + 1); rec.Mirrored != 2 {
					t.Errorf("recorded %+v", rec)
				}
				eventually(t, "both copies", func() bool { return a.count() == i+1 && b.count() == i+1 })
				if want := fmt.Sprintf("POST /m 1 %d", size); a.all[i] != want || b.all[i] != want {
					t.Errorf("copies %v, %v, want %q", a.all, b.all, want)
				}
			}
			if got := r.send(c, request1(t, "POST", "/m", strings.NewReader(strings.Repeat("x", 100<<10)))); got.status != 200 {
				t.Errorf("%+v", got)
			}
			r.rec.event(t, EventMirrorDropped, 2)
			if a.count() != 3 {
				t.Error("a copy of a body that is too long")
			}
		})
	}
}

// TestMirrorsDoNoHarm: mirrors that hang, that are not there and that are too many cost the request nothing.
func TestMirrorsDoNoHarm(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			var hung atomic.Int64
			w := newWorld(t)
			row := mirrored(1, 1, "hangs", "refuses", "nobody")
			deaf := w.listen("127.0.0.1:0")
			deaf.Close()
			few := func(c *Config) { c.Limits.Copies = 5 }
			r := newRouted(t, s.inMesh, mesh.HTTP1, row, few, map[string]net.Listener{"svc": w.httpApp(saying("svc")),
				"hangs": w.httpApp(counted(&hung, func(_ int64, w http.ResponseWriter, r *http.Request) { forever(w, r) })), "refuses": deaf})
			c := r.client(s.h2)
			began := time.Now()
			for range 20 {
				if got := r.send(c, request1(t, "POST", "/", strings.NewReader("hello"))); got.status != 200 {
					t.Fatalf("%+v", got)
				}
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("20 requests took %v", took)
			}
			r.rec.event(t, EventMirrorDropped, 5)
			if hung.Load() > 5 {
				t.Errorf("%d copies hang at once", hung.Load())
			}
		})
	}
}

func TestMirrorOfAShare(t *testing.T) {
	a := &seen{}
	w := newWorld(t)
	r := newRouted(t, false, mesh.HTTP1, mirrored(1, 4, "a"), nil, map[string]net.Listener{"svc": w.httpApp(saying("svc")), "a": w.httpApp(a.ServeHTTP)})
	c := r.client(false)
	sent := 0
	for i := range 400 {
		r.get(c, "/")
		sent += r.last(i + 1).Mirrored
	}
	if sent < 55 || sent > 145 { // five standard deviations about 100
		t.Errorf("%d of 400 were copied, want about 100", sent)
	}
	eventually(t, "the copies", func() bool { return a.count() == sent })
}
