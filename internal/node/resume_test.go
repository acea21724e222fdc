package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

var (
	webRow = &mesh.Pod{UID: "web", Name: mesh.Name{Namespace: "shop", Name: "web-1"}, Account: mesh.Account{Namespace: "shop", Name: "web"},
		Node: "n1", Workload: "web", Addrs: []netip.Addr{webIP}, InMesh: true}
)

// netns runs functions in a network namespace that has the addresses of the pods and of their service.
type netns chan func()

func newNetns(t *testing.T) netns {
	t.Helper()
	needRoot(t)
	ns, made := make(netns), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its sockets
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			err = netlink.LinkSetUp(lo)
			for _, a := range []netip.Addr{webIP, dbIP, vip, strange} {
				err = errors.Join(err, netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice())}))
			}
			return err
		}()
		for f := range ns {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(ns) })
	return ns
}

func (ns netns) do(f func() error) (err error) {
	done := make(chan struct{})
	ns <- func() {
		err = f()
		close(done)
	}
	<-done
	return err
}

func (ns netns) listen(t *testing.T, at netip.AddrPort) (l net.Listener) {
	t.Helper()
	if err := ns.do(func() (err error) { l, err = net.Listen("tcp4", at.String()); return err }); err != nil {
		t.Fatal(err)
	}
	return l
}

func (ns netns) dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (c *net.TCPConn, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	err = ns.do(func() error {
		made, err := d.DialContext(ctx, "tcp4", to.String())
		if err == nil {
			c = made.(*net.TCPConn)
		}
		return err
	})
	return c, err
}

// side is one node: a proxy without redirect, with one pod.
type side struct {
	*brain
	ns     netns
	t      *testing.T
	ca     *authority
	row    *mesh.Pod // what the pod is
	from   netip.Addr
	app    netip.AddrPort
	keeper *fakeKeeper
	creds  *credentials
	world  *fakeWorld
	m      *metrics
}

func (s *side) Dial(ctx context.Context, _ *l7.Pod, dst netip.AddrPort) (*net.TCPConn, error) {
	return s.ns.dial(ctx, s.from, dst)
}

func (s *side) DialApp(ctx context.Context, _ *l7.Pod, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.app.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// newSide starts a node's engine; out and in are its pod's listeners.
func newSide(t *testing.T, a *authority, ns netns, row *mesh.Pod, out, in []net.Listener) *side {
	t.Helper()
	s := &side{ns: ns, t: t, ca: a, row: row, from: row.Addrs[0], world: newWorld(), keeper: &fakeKeeper{t: t, keys: map[mesh.Account]*ecdsa.PrivateKey{}}}
	s.creds = newCredentials(s.keeper)
	s.roots(a.ca.RootPEM())
	s.certify()
	s.world.apply(dbService())
	s.world.apply(dbEndpoints(mesh.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Ready: true}))
	s.world.apply(mesh.Delta{Pods: []*mesh.Pod{webRow}})
	s.m, _ = testMetrics(t)
	cl := newClusters(row.Node)
	s.brain = &brain{world: s.world, clusters: cl, tables: newTables(cl, s.world, discard), creds: s.creds, metrics: s.m}
	engine := l7.New(l7.Config{Loops: 1, Recorder: s.m, Brain: s})
	engine.Set([]*l7.Pod{{UID: row.UID, Name: row.Name, Account: row.Account, Addrs: row.Addrs, Out: out, In: in}})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	running.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		_ = (&node{tableReady: func() {}}).follow(ctx, s.world, newTables(cl, s.world, discard), engine)
	})
	return s
}

func (s *side) roots(pem []byte) {
	s.t.Helper()
	if err := s.creds.setRoots("cluster.local", pem); err != nil {
		s.t.Fatal(err)
	}
}

// certify is the keeper's word that the pod's account has a new certificate.
func (s *side) certify() {
	s.t.Helper()
	c := s.ca.issue(s.row.Account, s.row.Node, time.Hour)
	s.keeper.mu.Lock()
	s.keeper.keys[s.row.Account] = c.PrivateKey.(*ecdsa.PrivateKey)
	s.keeper.mu.Unlock()
	s.word(c.Certificate)
}

// word is the keeper's event; without a chain it takes the certificate away.
func (s *side) word(chain [][]byte) {
	s.t.Helper()
	if err := s.creds.setCertificate(socket.Certificate{Account: s.row.Account, Chain: chain}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) signed() int {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	return s.keeper.signed
}

func (s *side) handshakes(d l7.Direction, result, resumed string) int {
	return int(testutil.ToFloat64(s.m.handshakes.WithLabelValues(d.String(), result, resumed)))
}

// sides are two nodes, with an app behind the second that sends back what it gets.
type sides struct {
	t        *testing.T
	ns       netns
	ca       *authority
	web, db  *side
	resumed  int
	expected int // signatures of each
}

func newSides(t *testing.T) *sides {
	s := &sides{t: t, ca: newAuthority(t), ns: newNetns(t)}
	out, in := s.ns.listen(t, netip.AddrPortFrom(vip, 3306)), s.ns.listen(t, netip.AddrPortFrom(dbIP, 3306))
	app := listenEcho(t)
	s.web = newSide(t, s.ca, s.ns, webRow, []net.Listener{out}, nil)
	s.db = newSide(t, s.ca, s.ns, db, nil, []net.Listener{in})
	s.db.app = app
	return s
}

// connect has the app of the first pod say something to the second's.
func (s *sides) connect() error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	c, err := s.ns.dial(ctx, webIP, netip.AddrPortFrom(vip, 3306))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

// well connects, and looks at what the handshake was by what the keepers signed.
func (s *sides) well(what string, resumed bool) {
	s.t.Helper()
	if err := s.connect(); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if resumed {
		s.resumed++
	} else {
		s.expected++
	}
	if a, b := s.web.signed(), s.db.signed(); a != s.expected || b != s.expected {
		s.t.Errorf("%s: %d and %d signatures, want %d", what, a, b, s.expected)
	}
	for _, got := range []int{s.web.handshakes(l7.Outbound, "ok", "true"), s.db.handshakes(l7.Inbound, "ok", "true")} {
		if got != s.resumed {
			s.t.Errorf("%s: %d resumed handshakes are counted, want %d", what, got, s.resumed)
		}
	}
	for _, got := range []int{s.web.handshakes(l7.Outbound, "ok", "false"), s.db.handshakes(l7.Inbound, "ok", "false")} {
		if got != s.expected {
			s.t.Errorf("%s: %d full handshakes are counted, want %d", what, got, s.expected)
		}
	}
}

// The second connection to a peer costs the keepers nothing, and what has changed costs it a full handshake.
func TestNodesResume(t *testing.T) {
	for name, change := range map[string]func(*sides){
		"the client's certificate is renewed":           func(s *sides) { s.web.certify() },
		"the server's certificate is renewed":           func(s *sides) { s.db.certify() },
		"the client's account left and has come back":   func(s *sides) { s.web.word(nil); s.web.certify() },
		"the server's account left and has come back":   func(s *sides) { s.db.word(nil); s.db.certify() },
		"the client has another root beside the old":    func(s *sides) { s.web.roots(s.joined()) },
		"the server has another root beside the old":    func(s *sides) { s.db.roots(s.joined()) },
		"the client's address is in no table any more":  func(s *sides) { s.db.world.apply(mesh.Delta{GonePods: []string{webRow.UID}}) },
		"the client's account is told anew, by restart": func(s *sides) { s.web.creds.keep(nil); s.web.certify() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSides(t)
			s.well("the first", false)
			s.well("the second", true)
			s.well("the third", true)
			change(s)
			s.well("after the change", false)
		})
	}
}

// joined are the roots with another beside them.
func (s *sides) joined() []byte {
	other, err := identity.NewCA(s.ca.ca.TrustDomain())
	if err != nil {
		s.t.Fatal(err)
	}
	both, err := identity.JoinRoots(s.ca.ca.RootPEM(), other.RootPEM())
	if err != nil {
		s.t.Fatal(err)
	}
	return both
}

// The same roots and the same certificate again, as a keeper sends them that has started anew, end nothing.
func TestWhatIsToldAgainEndsNoSession(t *testing.T) {
	s := newSides(t)
	s.well("the first", false)
	for _, side := range []*side{s.web, s.db} {
		side.roots(s.ca.ca.RootPEM())
		side.word(side.creds.certificates()[side.row.Account].Certificate)
	}
	s.well("the second", true)
}

// A session does not carry a peer past what a full handshake would not.
func TestAResumedPeerIsRefused(t *testing.T) {
	intruder := mesh.Account{Namespace: "data", Name: "intruder"}
	moved := func(p *mesh.Pod, a mesh.Account, node string) mesh.Delta {
		other := *p
		other.Account, other.Node = a, node
		return mesh.Delta{Pods: []*mesh.Pod{&other}}
	}
	for name, test := range map[string]struct {
		change func(*sides)
		where  l7.Direction
		cause  identity.Cause
	}{
		"the server's address is another account's":     {func(s *sides) { s.web.world.apply(moved(db, intruder, "n2")) }, l7.Outbound, identity.WrongIdentity},
		"the server's address is on another node":       {func(s *sides) { s.web.world.apply(moved(db, db.Account, "n3")) }, l7.Outbound, identity.WrongNode},
		"the client's address is another account's":     {func(s *sides) { s.db.world.apply(moved(webRow, intruder, "n1")) }, l7.Inbound, identity.WrongIdentity},
		"the client's address is on another node":       {func(s *sides) { s.db.world.apply(moved(webRow, webRow.Account, "n3")) }, l7.Inbound, identity.WrongNode},
		"the client's roots are others":                 {func(s *sides) { s.web.roots(s.others()) }, l7.Outbound, identity.UnknownAuthority},
		"the server's roots are others":                 {func(s *sides) { s.db.roots(s.others()) }, l7.Inbound, identity.UnknownAuthority},
		"the roots were changed behind the proxy's own": {func(s *sides) { s.mustReplace(s.db.creds.bundle) }, l7.Inbound, identity.UnknownAuthority},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSides(t)
			s.well("the first", false)
			s.well("the second", true)
			test.change(s)
			side := s.web
			if test.where == l7.Inbound {
				side = s.db
			}
			// The clusters follow the table a moment later.
			eventually(t, "the peer is refused", func() bool {
				return s.connect() != nil && side.handshakes(test.where, test.cause.String(), "false") > 0
			})
			if err := s.connect(); err == nil {
				t.Error("served, after it was refused")
			}
		})
	}
}

func (s *sides) others() []byte {
	other, err := identity.NewCA(s.ca.ca.TrustDomain())
	if err != nil {
		s.t.Fatal(err)
	}
	return other.RootPEM()
}

// mustReplace leaves the sessions as they are: what is verified is shown to be verified by itself.
func (s *sides) mustReplace(b *identity.Bundle) {
	if err := b.Replace(s.others()); err != nil {
		s.t.Fatal(err)
	}
}

// With the account its keys and sessions go at once, and nobody waits for the sweep.
func TestSessionsGoWithTheAccount(t *testing.T) {
	for name, leave := range map[string]func(*side){
		"withdrawn": func(s *side) { s.word(nil) },
		"not told":  func(s *side) { s.creds.keep(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSides(t)
			s.well("the first", false)
			if n := s.web.creds.sessions.Len(); n != 1 {
				t.Fatalf("%d sessions", n)
			}
			old := s.web.creds.of(webRow.Account)
			leave(s.web)
			if n := s.web.creds.sessions.Len(); n != 0 || old.resume.Load() != nil || s.web.creds.of(webRow.Account).resume.Load() != nil {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}

// A certificate is renewed, and roots change, without a broken handshake: also of one that resumes at that moment.
func TestARenewalBreaksNoHandshakeUnderWay(t *testing.T) {
	a := newAuthority(t)
	a.push(db.Account, a.issue(db.Account, "n2", time.Hour))
	w := newWorld()
	w.apply(mesh.Delta{Pods: []*mesh.Pod{webRow, db}})
	b := &brain{world: w, creds: a.creds}
	web := a.issue(webRow.Account, "n1", time.Hour)
	cfg, err := b.ServerTLS(&l7.Pod{Account: db.Account}, netip.AddrPortFrom(webIP, 40000))
	if err != nil {
		t.Fatal(err)
	}
	resumed := tls.ConnectionState{DidResume: true, PeerCertificates: []*x509.Certificate{web.Leaf}}
	a.push(db.Account, a.issue(db.Account, "n2", time.Hour))
	if err := cfg.VerifyConnection(resumed); err != nil {
		t.Errorf("after a renewal: %v", err)
	}
	if cfg, err = b.ServerTLS(&l7.Pod{Account: db.Account}, netip.AddrPortFrom(webIP, 40000)); err != nil {
		t.Fatal(err)
	}
	if err := a.creds.setRoots("cluster.local", (&sides{t: t, ca: a}).joined()); err != nil {
		t.Fatal(err)
	}
	if err := cfg.VerifyConnection(resumed); err != nil {
		t.Errorf("after a change of roots: %v", err)
	}
	if cfg, err = b.ServerTLS(&l7.Pod{Account: db.Account}, netip.AddrPortFrom(webIP, 40000)); err != nil {
		t.Fatal(err)
	}
	a.creds.withdraw(db.Account)
	if err := cfg.VerifyConnection(resumed); !errors.Is(err, identity.ErrEnded) {
		t.Errorf("after the certificate was taken away: %v", err)
	}
}
