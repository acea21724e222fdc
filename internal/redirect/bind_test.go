package redirect

import (
	"net"
	"net/netip"
	"testing"
)

// TestAppListensLater: the sockets that the proxy accepts bear the port that was dialled, in the app's namespace. They
// keep no app from listening there, be it for the first time or again.
func TestAppListensLater(t *testing.T) {
	w, _, proxy := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	port := w.serve(p3.ns, "tcp", ":0")
	var app net.Listener
	listen := func() {
		t.Helper()
		check(t, p1.ns.Do(func() (err error) {
			app, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
			return err
		}))
	}
	for _, a := range []netip.Addr{p3.v4, p3.v6} {
		dst := netip.AddrPortFrom(a, port)
		c := must[net.Conn](t)(dial(p1.ns, dst, nil))
		defer c.Close()
		expectWelcome(t, c)
		if n := len(proxy.took(Out, dst)); n != 1 {
			t.Fatalf("to %v: the proxy was given %d connections", dst, n)
		}
	}
	listen() // beside connections to the same port of others
	conns := make(chan net.Conn, 1)
	go func() {
		defer close(conns)
		if c, err := app.Accept(); err == nil {
			conns <- c
		}
	}()
	c := must[net.Conn](t)(dial(p3.ns, netip.AddrPortFrom(p1.v4, port), nil))
	defer c.Close()
	served, ok := <-conns
	if !ok {
		t.Fatal("the app was not called")
	}
	defer served.Close()
	check(t, app.Close())
	listen() // beside a connection to the same port of itself
	check(t, app.Close())
}
