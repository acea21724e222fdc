package l7

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func TestMain(m *testing.M) {
	// net/http's servers linger for half a second behind a connection that they have cut.
	linger := goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")
	goleak.VerifyTestMain(m, linger, goleak.Cleanup(func(code int) {
		deadline := time.Now().Add(5 * time.Second)
		for descriptors() > runtimeDescriptors && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond) // between polls; the deadline decides
		}
		if n := descriptors(); n > runtimeDescriptors {
			fmt.Fprintf(os.Stderr, "%d sockets, event polls and the like at the end\n", n)
			code = 1
		}
		os.Exit(code)
	}))
}

// runtimeDescriptors are the netpoller's epoll and eventfd.
const runtimeDescriptors = 2

// descriptors counts what the engine makes. Pipes are not counted: package net keeps those of splice for reuse.
func descriptors() (n int) {
	files, _ := os.ReadDir("/proc/self/fd")
	for _, f := range files {
		to, _ := os.Readlink("/proc/self/fd/" + f.Name())
		if strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:") {
			n++
		}
	}
	return n
}

// world is a network in which pod 10.1.0.N is really 127.1.0.N, and each (address, port) a listener of its own.
type world struct {
	t  testing.TB
	ca *authority

	denies, forbids atomic.Pointer[func(*exchange.Head) bool] // what requests are refused, by the pod and by its callers

	mu    sync.Mutex
	pods  map[netip.Addr]*testPod        // by real address
	ports map[netip.AddrPort]string      // virtual address and port to the listener that peers reach
	apps  map[netip.AddrPort]string      // ... and to the app behind it
	names map[string]netip.AddrPort      // listener to what it stands for
	dests map[netip.AddrPort]Destination // what outbound addresses stand for
	auth  func(*Arrival) error
	known chan struct{}           // closed when auth can tell; nil if it always can
	moved map[netip.AddrPort]bool // destinations that stand for something else by now
}

type testPod struct {
	pod  *mesh.Pod
	addr netip.Addr // virtual
	real netip.Addr
	cert tls.Certificate
}

func newWorld(t testing.TB) *world {
	return &world{t: t, ca: newAuthority(t), pods: map[netip.Addr]*testPod{}, ports: map[netip.AddrPort]string{},
		apps: map[netip.AddrPort]string{}, names: map[string]netip.AddrPort{}, dests: map[netip.AddrPort]Destination{}, moved: map[netip.AddrPort]bool{}}
}

// pod adds pod number n, with an account of its own.
func (w *world) pod(n int, inMesh bool) *testPod {
	w.t.Helper()
	name := fmt.Sprintf("pod-%d", n)
	p := &testPod{
		addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(n)}),
		real: netip.AddrFrom4([4]byte{127, 1, 0, byte(n)}),
	}
	p.pod = &mesh.Pod{UID: name, Name: mesh.Name{Namespace: "test", Name: name}, Account: mesh.Account{Namespace: "test", Name: name},
		Addrs: []netip.Addr{p.addr}, InMesh: inMesh}
	p.cert = w.ca.issue(w.t, p.pod.Account)
	w.mu.Lock()
	w.pods[p.real] = p
	w.mu.Unlock()
	return p
}

func (w *world) listen(addr string) *net.TCPListener {
	w.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// in makes the inbound listener of a pod's port, behind which app listens. A pod outside the mesh has none.
func (w *world) in(p *testPod, port uint16, app net.Listener) net.Listener {
	w.t.Helper()
	virtual := netip.AddrPortFrom(p.addr, port)
	w.mu.Lock()
	w.apps[virtual] = app.Addr().String()
	w.ports[virtual] = app.Addr().String()
	w.mu.Unlock()
	if !p.pod.InMesh {
		return nil
	}
	ln := w.listen(p.real.String() + ":0")
	w.mu.Lock()
	w.ports[virtual] = ln.Addr().String()
	w.names[ln.Addr().String()] = virtual
	w.mu.Unlock()
	return ln
}

// out makes the outbound listener by which the pod's app reaches a destination.
func (w *world) out(p *testPod, d Destination) net.Listener {
	w.t.Helper()
	ln := w.listen(p.real.String() + ":0")
	w.mu.Lock()
	w.names[ln.Addr().String()] = d.Addr
	w.dests[d.Addr] = d
	w.mu.Unlock()
	return ln
}

func (w *world) endpoint(p *testPod, port uint16) balance.Endpoint {
	return balance.Endpoint{Addr: netip.AddrPortFrom(p.addr, port), Pod: p.pod, Mesh: p.pod.InMesh, Account: p.pod.Account,
		Ready: true, Serving: true}
}

// service is a destination with a cluster of those endpoints.
func (w *world) service(vip string, protocol mesh.Protocol, endpoints ...balance.Endpoint) Destination {
	c := balance.New(balance.Config{})
	c.Set(endpoints)
	addr := netip.MustParseAddrPort(vip)
	return Destination{Addr: addr, Service: mesh.Name{Namespace: "test", Name: "svc"},
		Port: mesh.Port{Number: addr.Port(), Protocol: protocol}, Cluster: c}
}

func (p *testPod) spec(out, in []net.Listener) *Pod {
	return &Pod{UID: p.pod.UID, Name: p.pod.Name, Account: p.pod.Account, Addrs: p.pod.Addrs, Out: out, In: in, Drain: 200 * time.Millisecond}
}

// node runs an engine for some pods.
func (w *world) node(rec Recorder, change func(*Config), pods ...*Pod) *Engine {
	w.t.Helper()
	e, _ := w.mortal(rec, change, pods...)
	return e
}

// mortal is node, and a function that ends it.
func (w *world) mortal(rec Recorder, change func(*Config), pods ...*Pod) (*Engine, func()) {
	w.t.Helper()
	cfg := Config{Loops: 2, Brain: w, Recorder: rec, Log: slog.New(slog.NewTextHandler(testWriter{w.t}, nil))}
	if change != nil {
		change(&cfg)
	}
	e := New(cfg)
	e.original = func(c net.Conn) netip.AddrPort {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.names[c.LocalAddr().String()]
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.Set(pods)
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("run: %v", err)
			}
			if n := e.budget.Used(); n != 0 {
				w.t.Errorf("%d bytes of the node's budget are in use behind the end", n)
			}
			for _, p := range e.pods {
				if out, in := p.budgets[Outbound].Used(), p.budgets[Inbound].Used(); out != 0 || in != 0 {
					w.t.Errorf("%v: %d bytes of its budget are in use behind the end, and %d inbound", p.spec.Load().Name, out, in)
				}
			}
		case <-time.After(10 * time.Second):
			panic("engine does not end")
		}
	})
	w.t.Cleanup(stop)
	return e, stop
}

// testWriter logs what the engine says, as long as the test lasts.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func (w *world) Outbound(_ context.Context, _ *Pod, dst netip.AddrPort) (*Destination, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.dests[dst]
	if !ok {
		return nil, errors.New("unknown destination")
	}
	return &d, nil
}

func (w *world) Moved(d *Destination) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved[d.Addr]
}

func (w *world) Origin(_ *Pod, peer netip.AddrPort) Origin {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pods[peer.Addr()]; p != nil {
		return Origin{Pod: p.pod, Mesh: p.pod.InMesh}
	}
	return Origin{}
}

func (w *world) Dial(ctx context.Context, p *Pod, dst netip.AddrPort) (*net.TCPConn, error) {
	w.mu.Lock()
	to := w.ports[dst]
	if p.Has(dst.Addr()) {
		to = w.apps[dst]
	}
	w.mu.Unlock()
	if to == "" {
		return nil, errors.New("nobody listens")
	}
	from := p.Addrs[0].As4()
	from[0] = 127
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from[:]}}
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (w *world) DialApp(ctx context.Context, _ *Pod, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	w.mu.Lock()
	to := w.apps[dst]
	w.mu.Unlock()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: client.AsSlice()}}
	c, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (w *world) certOf(p *Pod) tls.Certificate {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tp := range w.pods {
		if tp.pod.UID == p.UID {
			return tp.cert
		}
	}
	return tls.Certificate{}
}

func (w *world) ClientTLS(p *Pod, e *balance.Endpoint, alpn string) (*tls.Config, error) {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, Certificates: []tls.Certificate{w.certOf(p)},
		InsecureSkipVerify: true, // the name is not a DNS name: VerifyConnection does it all
		VerifyConnection:   func(s tls.ConnectionState) error { return w.ca.verify(s, &e.Account) },
	}, nil
}

func (w *world) ServerTLS(p *Pod, _ netip.AddrPort) (*tls.Config, error) {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{ALPNHTTP, ALPNTCP}, Certificates: []tls.Certificate{w.certOf(p)},
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return w.ca.verify(s, nil) },
	}, nil
}

func (w *world) Authorize(a *Arrival) error {
	w.mu.Lock()
	auth := w.auth
	w.mu.Unlock()
	if auth == nil {
		return nil
	}
	return auth(a)
}

func (w *world) Client(*Arrival) any { return nil }

// AuthorizeRequest answers as the test says (world.denies).
func (w *world) AuthorizeRequest(_ *Arrival, h *exchange.Head, _ bool) error {
	if f := w.denies.Load(); f != nil && (*f)(h) {
		return ErrDenied
	}
	return nil
}

func (w *world) Permit(_ *Pod, _ *balance.Endpoint, h *exchange.Head) error {
	if f := w.forbids.Load(); f != nil && (*f)(h) {
		return ErrDenied
	}
	return nil
}

func (w *world) Policy(*Pod) any { return w.denies.Load() }

func (w *world) Decided(ctx context.Context, _ *Pod) {
	w.mu.Lock()
	known := w.known
	w.mu.Unlock()
	select {
	case <-known:
	case <-ctx.Done():
	}
}

func dial(t testing.TB, ln net.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

// tcpApp serves every connection with f.
func (w *world) tcpApp(f func(*net.TCPConn)) net.Listener {
	ln := w.listen("127.0.0.1:0")
	var group sync.WaitGroup
	w.t.Cleanup(group.Wait)
	w.t.Cleanup(func() { ln.Close() })
	group.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				f(c)
			})
		}
	})
	return ln
}

func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}
