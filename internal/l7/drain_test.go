package l7

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// TestDrainAlone: without a successor HTTP ends with its next response, opaque connections go on, and what comes waits in the
// queue, untouched; as soon as there is a successor it is served.
func TestDrainAlone(t *testing.T) {
	w := newWorld(t)
	rec := &ledger{}
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 8080, w.httpApp(report))
	w.in(server, 7000, w.tcpApp(echo))
	web := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	raw := w.out(client, w.service("10.96.0.2:7000", mesh.TCP, w.endpoint(server, 7000)))
	e, stop := w.mortal(rec, nil, client.spec([]net.Listener{web, raw}, nil))

	opaque := dial(t, raw)
	mustEcho(t, opaque, "before")
	idle := dial(t, web)
	if resp := ask(t, idle); resp.Close {
		t.Error("closed before the drain")
	}
	if n := e.Live(); n != 2 {
		t.Errorf("%d connections live, want 2", n)
	}

	e.Drain(false) // returns at once
	eventually(t, "the connection is said to close", func() bool { return ask(t, idle).Close })
	idle.Close()
	mustEcho(t, opaque, "during")
	var late [2]*net.TCPConn
	eventually(t, "a connection that comes later waits", func() bool {
		late[0] = dial(t, raw) // Drain returns at once: one may still be accepted
		fmt.Fprint(late[0], "x")
		late[0].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := late[0].Read(make([]byte, 1)); n == 0 && isTimeout(err) {
			return true
		}
		late[0].Close()
		return false
	})
	late[1] = dial(t, web)
	eventually(t, "the one that ended is gone", func() bool { return e.Live() == 1 })

	e.Drain(true)
	late[0].SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(late[0], make([]byte, 1)); err != nil {
		t.Errorf("with a successor there, what waited: %v", err)
	}
	if resp := ask(t, late[1]); !resp.Close {
		t.Error("a later connection is not said to close")
	}
	mustEcho(t, dial(t, raw), "even later")

	stop()
	rec.conn(t, "cut off at the end", func(r *ConnRecord) bool { return r.Cause == CauseDrain && r.Kind == KindTCP })
	if n := e.Live(); n != 0 {
		t.Errorf("%d connections live behind the end", n)
	}
}

// TestDrainLeavesTheQueue: an engine that ends without a successor leaves what waits to whoever holds the listener too.
func TestDrainLeavesTheQueue(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, false)
	w.in(server, 7000, w.tcpApp(echo))
	out := w.out(client, w.service("10.96.0.2:7000", mesh.TCP, w.endpoint(server, 7000)))
	keepers, err := out.(*net.TCPListener).File() // as the keeper holds it
	if err != nil {
		t.Fatal(err)
	}
	defer keepers.Close()
	e, stop := w.mortal(nil, nil, client.spec([]net.Listener{out}, nil))
	mustEcho(t, dial(t, out), "before")
	e.Drain(false)
	var waits *net.TCPConn
	eventually(t, "nothing is accepted", func() bool {
		waits = dial(t, out)
		fmt.Fprint(waits, "y")
		waits.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := waits.Read(make([]byte, 1))
		return isTimeout(err)
	})
	stop()
	again, err := net.FileListener(keepers)
	if err != nil {
		t.Fatal(err)
	}
	w.node(nil, nil, client.spec([]net.Listener{again}, nil))
	waits.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(waits, make([]byte, 1)); err != nil {
		t.Errorf("served by the next one: %v", err)
	}
}

// TestPeersMoveOn: the server's side of the mesh drains while requests come over one connection: the peer makes another, to the
// successor's listener, and loses none.
func TestPeersMoveOn(t *testing.T) {
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	in := w.in(server, 8080, w.httpApp(report))
	out := w.out(client, w.service("10.96.0.1:80", mesh.HTTP1, w.endpoint(server, 8080)))
	old, stop := w.mortal(nil, nil, server.spec(nil, []net.Listener{in}))
	w.node(nil, nil, client.spec([]net.Listener{out}, nil))
	c := httpClient(t, out, true)
	failed := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(failed)
		for {
			select {
			case <-done:
				return
			default:
			}
			resp, err := c.Get("http://svc.test/")
			if err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			if err != nil {
				failed <- err
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	get(t, c)
	w.node(nil, nil, server.spec(nil, []net.Listener{w.in(server, 8080, w.httpApp(report))}))
	old.Drain(true)
	eventually(t, "the old one has nothing any more", func() bool { return old.Live() == 0 })
	stop()
	get(t, c)
	close(done)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

func mustEcho(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q came back as %q, %v", text, got, err)
	}
}

// ask makes one request on a connection that is kept.
func ask(t *testing.T, c *net.TCPConn) *http.Response {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: svc.test\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
