package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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

// authority issues certificates of one trust domain, and has a fakeKeeper sign with their keys.
type authority struct {
	t      *testing.T
	ca     *identity.CA
	bundle *identity.Bundle
	keeper *fakeKeeper
	creds  *credentials
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	td, err := identity.ParseTrustDomain("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, keeper: &fakeKeeper{t: t, keys: map[mesh.Account]*ecdsa.PrivateKey{}}}
	if a.ca, err = identity.NewCA(td); err != nil {
		t.Fatal(err)
	}
	if a.bundle, err = identity.ParseBundle(td, a.ca.RootPEM()); err != nil {
		t.Fatal(err)
	}
	a.creds = newCredentials(a.keeper)
	if err := a.creds.setRoots(td.Name(), a.ca.RootPEM()); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(account mesh.Account, node string, ttl time.Duration) *tls.Certificate {
	a.t.Helper()
	id, err := identity.AccountID(a.ca.TrustDomain(), account)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := a.ca.Issue(identity.Request{ID: id, Node: node, TTL: ttl})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// push is the keeper's Certificate event.
func (a *authority) push(account mesh.Account, c *tls.Certificate) {
	a.t.Helper()
	a.keeper.mu.Lock()
	a.keeper.keys[account] = c.PrivateKey.(*ecdsa.PrivateKey)
	a.keeper.mu.Unlock()
	if err := a.creds.setCertificate(socket.Certificate{Account: account, Chain: c.Certificate, NotAfter: c.Leaf.NotAfter}); err != nil {
		a.t.Fatal(err)
	}
}

// loopbackBrain is a brain whose apps are reached as the test says, since no redirect stands before them here.
type loopbackBrain struct {
	*brain
	app netip.AddrPort
}

func (b loopbackBrain) DialApp(ctx context.Context, _ *l7.Pod, _ netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", b.app.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// A connection from an address that the table does not know yet passes, and is held against the table when it does.
func TestProvisionalPeersAreHeldAgainstTheTableLater(t *testing.T) {
	intruder := mesh.Account{Namespace: "data", Name: "intruder"}
	for name, owner := range map[string]mesh.Account{"the address is another's": db.Account, "the address is the peer's": intruder} {
		t.Run(name, func(t *testing.T) { provisional(t, intruder, owner) })
	}
}

func provisional(t *testing.T, peer, owner mesh.Account) {
	a := newAuthority(t)
	web := mesh.Account{Namespace: "shop", Name: "web"}
	a.push(web, a.issue(web, "n1", time.Hour))
	m, _ := testMetrics(t)
	w, cl := newWorld(), newClusters("n1")
	w.apply(dbService())
	engine := l7.New(l7.Config{Loops: 1, Recorder: m,
		Brain: loopbackBrain{&brain{world: w, clusters: cl, tables: newTables(cl, w, discard), creds: a.creds}, listenEcho(t)}})
	in, plain := acrossANamespace(t)
	engine.Set([]*l7.Pod{{UID: "web", Name: mesh.Name{Namespace: "shop", Name: "web-1"}, Account: web, In: []net.Listener{in}}})
	n := &node{tableReady: func() {}}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(stop)
	running.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { _ = n.follow(ctx, w, newTables(cl, w, discard), engine) })

	cfg := identity.ClientTLS(identity.Static{Cert: a.issue(peer, "n2", time.Hour)}, a.bundle, identity.Anyone)
	cfg.NextProtos = []string{l7.ALPNTCP}
	c := tls.Client(plain, cfg)
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	echoes := func(text string) error {
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	if _, err := io.WriteString(c, "FLT1\x00\x00"); err != nil {
		t.Fatal(err)
	}
	if err := echoes("ping"); err != nil {
		t.Fatalf("while the table does not know the address: %v", err)
	}
	w.apply(mesh.Delta{Pods: []*mesh.Pod{{UID: "late", Account: owner, Node: "n2", Addrs: []netip.Addr{strange}, InMesh: true}}})
	forbidden := func() float64 {
		return testutil.ToFloat64(m.events.WithLabelValues(l7.Inbound.String(), l7.EventForbidden.String()))
	}
	if owner == peer {
		eventually(t, "the table's change is seen", func() bool { return len(w.changed) == 0 })
		if err := echoes("ping"); err != nil || forbidden() != 0 {
			t.Errorf("a rightful peer: %v, %v forbidden", err, forbidden())
		}
		return
	}
	eventually(t, "the connection is counted", func() bool { return forbidden() == 1 })
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the connection goes on, or ends in order: %v", err)
	}
}

// strange is an address that the table does not know.
var strange = netip.MustParseAddr("10.244.2.77")

// acrossANamespace listens in a network namespace of its own, and connects there, both from and to strange: the engine
// takes nothing from loopback addresses.
func acrossANamespace(t *testing.T) (net.Listener, net.Conn) {
	t.Helper()
	needRoot(t)
	var l net.Listener
	var c net.Conn
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its sockets
		made <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			addr := &netlink.Addr{IPNet: netlink.NewIPNet(strange.AsSlice())}
			if err := errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr)); err != nil {
				return err
			}
			if l, err = net.Listen("tcp4", netip.AddrPortFrom(strange, 0).String()); err != nil {
				return err
			}
			c, err = net.Dial("tcp4", l.Addr().String())
			return err
		}()
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	return l, c
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// listenEcho is an app that sends back what it gets.
func listenEcho(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestCredentials(t *testing.T) {
	a := newAuthority(t)
	web, gone := mesh.Account{Namespace: "shop", Name: "web"}, mesh.Account{Namespace: "shop", Name: "gone"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, _, err := a.creds.wait(ctx, web); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the keeper's word: %v", err)
	}
	a.push(web, a.issue(web, "n1", time.Hour))
	brief := a.issue(gone, "n1", time.Nanosecond)
	a.push(gone, brief)
	a.push(mesh.Account{}, a.issue(web, "n1", time.Hour))
	src, _, err := a.creds.wait(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	c, err := src.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	a.push(web, &tls.Certificate{Certificate: c.Certificate, Leaf: c.Leaf, PrivateKey: a.keeper.keys[web]})
	if again, err := src.Certificate(); err != nil || again != c {
		t.Errorf("the same certificate again is another: %v", err)
	}
	if _, err := a.creds.of(gone).Certificate(); !errors.Is(err, identity.ErrNoCertificate) {
		t.Errorf("a certificate that has expired: %v", err)
	}
	a.creds.sweep(map[mesh.Account]bool{gone: true})
	if len(a.creds.expiries()) != 3 {
		t.Errorf("an account with a pod is dropped: %v", a.creds.expiries())
	}
	a.creds.sweep(nil)
	if left := a.creds.expiries(); len(left) != 2 || left[gone] != (time.Time{}) {
		t.Errorf("after the sweep: %v", left)
	}
}

func TestRootsStayInTheirTrustDomain(t *testing.T) {
	a := newAuthority(t)
	if err := a.creds.setRoots("other.example", a.ca.RootPEM()); err == nil {
		t.Error("the trust domain was changed")
	}
	for _, text := range [][]byte{nil, []byte("text"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")})} {
		if err := a.creds.setRoots("cluster.local", text); err == nil {
			t.Errorf("taken for roots: %q", text)
		}
	}
	if err := a.creds.setCertificate(socket.Certificate{Chain: [][]byte{{1}}}); err == nil {
		t.Error("taken for a certificate")
	}
	if _, err := a.bundle.Verify(nil); err == nil || sha256.Sum256(a.ca.RootPEM()) != sha256.Sum256(a.creds.bundle.PEM()) {
		t.Error("the roots have changed")
	}
}
