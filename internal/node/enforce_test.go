package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// denyWeb is a policy of db's namespace against the account of web, at what matches.
func denyWeb(to ...mesh.Match) mesh.Delta {
	rule := mesh.AuthRule{From: []mesh.Peer{{Accounts: []mesh.Account{webRow.Account}}}}
	if len(to) > 0 {
		rule.To = []mesh.Operation{{Matches: to}}
	}
	return mesh.Delta{Authorizations: []*mesh.Authorization{{Name: denyName, Action: mesh.Deny, All: db.Name.Namespace, Rules: []mesh.AuthRule{rule}}}}
}

var (
	denyName = mesh.Name{Namespace: db.Name.Namespace, Name: "no-web"}
	noDeny   = mesh.Delta{GoneAuthorizations: []mesh.Name{denyName}}
	secret   = mesh.Match{Path: mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/secret"}}
)

func (s *side) decided(d l7.Direction, rule string, what verdict) int {
	return int(testutil.ToFloat64(s.m.verdicts.get(verdictKey{direction: d, policy: denyName, rule: rule, verdict: what.String(),
		pod: mesh.Name{Namespace: db.Name.Namespace, Name: db.Workload}})))
}

// TestAPolicyClosesLiveBytes has a policy come and go while a connection of opaque bytes lives between two nodes.
func TestAPolicyClosesLiveBytes(t *testing.T) {
	for name, policy := range map[string]mesh.Delta{"the client": denyWeb(), "requests, which opaque bytes have none of": denyWeb(secret)} {
		t.Run(name, func(t *testing.T) {
			s := newSides(t)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			c, err := s.ns.dial(ctx, webIP, netip.AddrPortFrom(vip, 3306))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(c, "ping"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s.db.world.apply(policy)
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the live connection: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("after %v", took)
			}
			if s.connect() == nil {
				t.Error("a new connection is let in")
			}
			if s.db.decided(l7.Inbound, "0", denied) == 0 {
				t.Error("nothing is counted")
			}
			s.db.world.apply(noDeny)
			if err := s.connect(); err != nil {
				t.Errorf("when the policy has gone: %v", err)
			}
		})
	}
}

// overHTTP makes the service one of HTTP, and counts what its app sees.
func (s *sides) overHTTP() (get func(path string) (int, error), seen *atomic.Int64) {
	s.t.Helper()
	seen = new(atomic.Int64)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.Add(1) }))
	s.t.Cleanup(app.Close)
	s.db.app = netip.MustParseAddrPort(app.Listener.Addr().String())
	svc := *dbService().Services[0]
	svc.Ports = []mesh.Port{{Name: "sql", Number: 3306, Protocol: mesh.HTTP1}}
	s.web.world.apply(mesh.Delta{Services: []*mesh.Service{&svc}})
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.ns.dial(ctx, webIP, netip.AddrPortFrom(vip, 3306))
	}}
	s.t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	return func(path string) (int, error) {
		resp, err := c.Get("http://db.test" + path)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}, seen
}

// TestEitherSideRefusesRequests: the receiving node by itself, and the caller's before the way.
func TestEitherSideRefusesRequests(t *testing.T) {
	for name, policy := range map[string]mesh.Delta{"what matches": denyWeb(secret), "everything": denyWeb()} {
		t.Run(name, func(t *testing.T) {
			s := newSides(t)
			get, seen := s.overHTTP()
			check := func(when, path string, want int) {
				t.Helper()
				if got, err := get(path); err != nil || got != want {
					t.Errorf("%s, %s: %d, %v, want %d", when, path, got, err, want)
				}
			}
			open := map[string]int{"what matches": 200, "everything": 403}[name]
			check("without a policy", "/secret", 200)
			s.db.world.apply(policy)
			check("at the receiver", "/secret", 403)
			check("at the receiver", "/open", open)
			if s.db.decided(l7.Inbound, "0", denied) == 0 || s.web.decided(l7.Outbound, "0", denied) != 0 {
				t.Error("not counted at the receiver, or at the source")
			}
			s.web.world.apply(policy)
			before := s.db.decided(l7.Inbound, "0", denied)
			check("at both", "/secret", 403)
			check("at both", "/open", open)
			if s.web.decided(l7.Outbound, "0", denied) == 0 || s.db.decided(l7.Inbound, "0", denied) != before {
				t.Error("the caller's side has not refused, or asked in spite of it")
			}
			was := seen.Load()
			s.db.world.apply(noDeny)
			s.web.world.apply(noDeny)
			check("when it has gone", "/secret", 200)
			if seen.Load() != was+1 {
				t.Errorf("the app has seen %d requests more", seen.Load()-was)
			}
		})
	}
}

// TestPoliciesChangeUnderLoad has a policy come and go at the receiver while requests run: what it does not forbid never fails, and
// what it forbids gets nothing else than 200 and 403.
func TestPoliciesChangeUnderLoad(t *testing.T) {
	s := newSides(t)
	get, _ := s.overHTTP()
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var refused, passed atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if got, err := get("/open"); err != nil || got != 200 {
					t.Errorf("/open: %d, %v", got, err)
					return
				}
				got, err := get("/secret")
				switch {
				case err == nil && got == 403:
					refused.Add(1)
				case err == nil && got == 200:
					passed.Add(1)
				default:
					t.Errorf("/secret: %d, %v", got, err)
					return
				}
			}
		})
	}
	for range 10 {
		s.db.world.apply(denyWeb(secret))
		n := refused.Load()
		eventually(t, "it is refused", func() bool { return refused.Load() > n+4 })
		s.db.world.apply(noDeny)
		n = passed.Load()
		eventually(t, "it passes", func() bool { return passed.Load() > n+4 })
	}
	stop()
	load.Wait()
}

// TestAsksWithoutMemory: what the requests of the mesh are asked takes none.
func TestAsksWithoutMemory(t *testing.T) {
	a := newAuthority(t)
	a.push(webRow.Account, a.issue(webRow.Account, webRow.Node, time.Hour))
	w := newWorld()
	w.apply(mesh.Delta{Pods: []*mesh.Pod{db, webRow}, Authorizations: denyWeb(secret).Authorizations})
	b := testBrain(w)
	b.creds = a.creds
	b.metrics, _ = testMetrics(t)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{a.issue(webRow.Account, webRow.Node, time.Hour).Leaf}}
	in := &l7.Arrival{Pod: &l7.Pod{UID: db.UID, Addrs: db.Addrs}, Peer: netip.AddrPortFrom(webIP, 40000), TLS: &state, Port: 3306}
	in.Client = b.Client(in)
	caller := &l7.Pod{UID: webRow.UID, Account: webRow.Account}
	to := balance.Single(balance.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Pod: db, Mesh: true})
	h := &exchange.Head{Method: "GET", Path: "/open"}
	if n := testing.AllocsPerRun(100, func() {
		if b.AuthorizeRequest(in, h, true) != nil || b.Permit(caller, to, h) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	h.Path = "/secret/x"
	if err := b.AuthorizeRequest(in, h, true); !errors.Is(err, l7.ErrDenied) {
		t.Errorf("%v", err)
	}
}
