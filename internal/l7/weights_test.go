package l7

import (
	"context"
	"crypto/tls"
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

// canary is a rule that gives v2 so many parts of a hundred.
func canary(v2 uint32) *mesh.PortRoutes {
	b := to("v1", "v2")
	b[0].Weight, b[1].Weight = 100-v2, v2
	return httpRow(mesh.Rule{Title: "/", Backends: b})
}

func TestWeights(t *testing.T) {
	for _, s := range settings[:2] {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t)
			r := newRouted(t, s.inMesh, mesh.HTTP1, canary(10), nil, map[string]net.Listener{"v1": w.httpApp(saying("v1")), "v2": w.httpApp(saying("v2"))})
			c := r.client(s.h2)
			v2 := 0
			for range 1000 {
				if strings.HasPrefix(r.get(c, "/").body, "v2") {
					v2++
				}
			}
			if v2 < 52 || v2 > 148 { // five standard deviations about 100
				t.Errorf("%d of 1000 requests, want about 100", v2)
			}
		})
	}
}

// TestChangesUnderLoad: weights change, backends come and go, and so do all rules; no request fails.
func TestChangesUnderLoad(t *testing.T) {
	for _, s := range settings {
		t.Run(s.String(), func(t *testing.T) {
			w := newWorld(t)
			r := newRouted(t, s.inMesh, mesh.HTTP1, canary(0), nil,
				map[string]net.Listener{"svc": w.httpApp(saying("svc")), "v1": w.httpApp(saying("v1")), "v2": w.httpApp(saying("v2"))})
			ctx, stop := context.WithCancel(t.Context())
			var group sync.WaitGroup
			var served atomic.Int64
			for range 4 {
				c := r.client(s.h2)
				group.Go(func() {
					for ctx.Err() == nil {
						resp, err := c.Post("http://svc.test/", "text/plain", strings.NewReader("hello"))
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != 200 {
							t.Errorf("status %d", resp.StatusCode)
							return
						}
						served.Add(1)
					}
				})
			}
			for i := range 60 {
				switch i % 6 {
				case 4:
					r.live.Set(nil)
				case 5:
					r.set(httpRow(mesh.Rule{Title: "/", Backends: to("v1")})) // v2 is no backend any more
				default:
					r.set(canary(uint32(i % 6 * 30)))
				}
				time.Sleep(10 * time.Millisecond) // the load's time between changes
			}
			stop()
			group.Wait()
			if served.Load() < 100 {
				t.Errorf("%d requests", served.Load())
			}
		})
	}
}

// greeter tells its name to whoever connects, and echoes.
func greeter(name string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = io.WriteString(c, name)
		echo(c)
	}
}

func TestTCPRoute(t *testing.T) {
	for _, inMesh := range []bool{false, true} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			row := canary(50)
			row.Kind, row.Order[0].Match = mesh.TCPRoute, mesh.Match{}
			w := newWorld(t)
			r := newRouted(t, inMesh, mesh.TCP, row, nil, map[string]net.Listener{"v1": w.tcpApp(greeter("v1")), "v2": w.tcpApp(greeter("v2"))})
			got := map[string]int{}
			ask := func() string {
				c := dial(t, r.out)
				defer c.Close()
				b := make([]byte, 2)
				_, _ = io.ReadFull(c, b)
				return string(b)
			}
			for range 200 {
				got[ask()]++
			}
			if got["v1"] < 65 || got["v2"] < 65 || got["v1"]+got["v2"] != 200 {
				t.Errorf("%v of 200 connections", got)
			}
			if inMesh {
				closed := r.behind.conn(t, "one of v2", func(c *ConnRecord) bool { return c.Service.Name == "v2" })
				if closed.Service.Namespace != "test" {
					t.Errorf("recorded %+v", closed)
				}
			}
			row.Rules[0].Backends = nil
			r.set(row)
			if s := ask(); s != "\x00\x00" {
				t.Errorf("without a backend: %q", s)
			}
			r.rec.conn(t, "one that got nowhere", func(c *ConnRecord) bool { return c.Cause == CauseNoBackend && c.Rule != nil })
		})
	}
}

func TestTLSRoute(t *testing.T) {
	row := &mesh.PortRoutes{Port: 80, Kind: mesh.TLSRoute, Rules: []mesh.Rule{{Backends: to("v1")}, {Backends: to("v2")}},
		Order: []mesh.RuleMatch{{Rule: 0, Match: mesh.Match{SNI: "a.test"}}, {Rule: 1, Match: mesh.Match{SNI: "*.b.test"}}}}
	for _, inMesh := range []bool{false, true} {
		t.Run(fmt.Sprint(inMesh), func(t *testing.T) {
			w := newWorld(t)
			cert := w.ca.issue(t, mesh.Account{Namespace: "test", Name: "app"})
			app := func(name string) net.Listener {
				return w.tcpApp(func(c *net.TCPConn) {
					s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
					_, _ = io.WriteString(s, name)
					_ = s.CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				})
			}
			r := newRouted(t, inMesh, mesh.TCP, row, nil, map[string]net.Listener{"v1": app("v1"), "v2": app("v2")})
			for sni, want := range map[string]string{"a.test": "v1", "x.b.test": "v2", "other.test": ""} {
				s := tls.Client(dial(t, r.out), &tls.Config{ServerName: sni, InsecureSkipVerify: true})
				got, err := io.ReadAll(s)
				if string(got) != want || (err == nil) != (want != "") {
					t.Errorf("%s: %q, %v, want %q", sni, got, err, want)
				}
				s.Close()
			}
			r.rec.conn(t, "one that no rule is for", func(c *ConnRecord) bool { return c.Cause == CauseNoRoute && c.SNI == "other.test" })
		})
	}
}

// TestEndpointsOfABackend: one without any is answered for as a service without any is.
func TestEndpointsOfABackend(t *testing.T) {
	w := newWorld(t)
	r := newRouted(t, false, mesh.HTTP1, httpRow(mesh.Rule{Title: "/", Backends: to("v1")}), nil, map[string]net.Listener{"v1": w.httpApp(saying("v1"))})
	r.clusters[mesh.Name{Namespace: "test", Name: "v1"}].Set(nil)
	if got := r.get(r.client(false), "/"); got.status != http.StatusServiceUnavailable {
		t.Errorf("%+v", got)
	}
}
