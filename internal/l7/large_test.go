package l7

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

// TestLargeAnswersMakeLittleGarbage: a body of 64 KiB that passes two nodes uses buffers again. The ceiling is for both engines, client
// and app, whose own share is measured without a mesh.
func TestLargeAnswersMakeLittleGarbage(t *testing.T) {
	const size, calls = 64 << 10, 200
	body := make([]byte, size)
	w := newWorld(t)
	client, server := w.pod(1, true), w.pod(2, true)
	app := w.httpApp(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	in := w.in(server, 8080, app)
	for _, framed := range []bool{false, true} {
		protocol := map[bool]mesh.Protocol{false: mesh.HTTP1, true: mesh.HTTP2}[framed]
		out := w.out(client, w.service("10.96.0.1:80", protocol, w.endpoint(server, 8080)))
		w.node(nil, nil, client.spec([]net.Listener{out}, nil))
		w.node(nil, nil, server.spec(nil, []net.Listener{in}))
		direct, through := garbage(t, httpClient(t, app, framed), calls), garbage(t, httpClient(t, out, framed), calls)
		t.Logf("framed %v: %d KiB for a request, %d through two nodes", framed, direct>>10, through>>10)
		if through > direct+48<<10 {
			t.Errorf("framed %v: %d KiB for a request through two nodes, %d without", framed, through>>10, direct>>10)
		}
		in = w.in(server, 8080, app)
	}
}

// garbage is how many bytes this process allocates for a request.
func garbage(t *testing.T, c *http.Client, calls int) int {
	t.Helper()
	call := func(n int) {
		for range n {
			resp, err := c.Get("http://svc.test/")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	call(20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call(calls)
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / calls
}
