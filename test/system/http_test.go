package system

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// webs is a client on the first node, and a server on each node behind a service of its own.
type webs struct {
	m        *testnet.Mesh
	client   *testnet.Pod
	servers  map[string]*testnet.Pod     // "near" and "far"
	services map[string][]netip.AddrPort // ClusterIPs of "near" and "far", IPv4 and IPv6
	dir      string
}

func newWebs(t *testing.T) *webs {
	m := sharedMesh(t)
	w := &webs{m: m, servers: map[string]*testnet.Pod{}, services: map[string][]netip.AddrPort{}, dir: workDir(t, 0, 0)}
	for i, where := range []string{"near", "far"} {
		name := unique(t, where)
		w.services[where] = addService(t, m, testnet.Service("app", name, 80, 8080))
		w.servers[where] = webPod(t, m, m.Lab.Node(i), testnet.PodSpec{Name: name})
	}
	w.client = joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	return w
}

func curl(t testing.TB, p *testnet.Pod, args ...string) string {
	t.Helper()
	return mustRun(t, p, testnet.Command{Path: "curl", Args: append([]string{"-sS", "--fail-with-body", "--max-time", "20", "--noproxy", "*"}, args...)})
}

// TestCurl asks with each version of HTTP for each form of address.
func TestCurl(t *testing.T) {
	needs(t, "curl")
	w := newWebs(t)
	for _, version := range []string{"--http1.1", "--http1.0", "--http2-prior-knowledge"} {
		for where, server := range w.servers {
			targets := map[string]netip.AddrPort{}
			for i, family := range []string{"v4", "v6"} {
				targets["service-"+family] = w.services[where][i]
				targets["pod-"+family] = netip.AddrPortFrom(server.Addr([]int{4, 6}[i]), 8080)
			}
			for form, addr := range targets {
				t.Run(strings.TrimLeft(version, "-")+"/"+where+"/"+form, func(t *testing.T) {
					viaMesh(t, w.m, w.client, server, func() { w.ask(t, version, addr, server) })
				})
			}
		}
	}
}

// ask checks the small things: what the server sees of the request and its client, and what the client gets of the answer.
func (w *webs) ask(t *testing.T, version string, addr netip.AddrPort, server *testnet.Pod) {
	url := "http://" + addr.String()
	var seen struct {
		Method, Proto, Remote, Host, Server string
		Headers                             map[string][]string
	}
	out := curl(t, w.client, version, "-H", "X-MiXed: One", "-H", "X-MiXed: two", url+"/show?a=b%20c")
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	proto := map[string]string{"--http1.1": "HTTP/1.1", "--http1.0": "HTTP/1.0", "--http2-prior-knowledge": "HTTP/2.0"}[version]
	if seen.Proto != proto || seen.Method != "GET" || seen.Host != strings.TrimSuffix(addr.String(), ":80") || seen.Server != server.Name {
		t.Errorf("the server saw %+v, want %s", seen, proto)
	}
	remote, err := netip.ParseAddrPort(seen.Remote)
	family := 6
	if addr.Addr().Is4() {
		family = 4
	}
	if err != nil || remote.Addr() != w.client.Addr(family) {
		t.Errorf("the server's client is %s, want %s", seen.Remote, w.client.Addr(family))
	}
	if got := strings.Join(seen.Headers["X-Mixed"], "|"); got != "One|two" {
		t.Errorf("headers arrived as %q", got)
	}
	for name := range seen.Headers {
		if strings.HasPrefix(strings.ToLower(name), "fairlead") {
			t.Errorf("the app got our header %s", name)
		}
	}
	for _, code := range []string{"204", "404", "503"} {
		got := mustRun(t, w.client, testnet.Command{Path: "curl", Args: []string{"-sS", "--noproxy", "*", "--max-time", "20", version,
			"-o", "/dev/null", "-w", "%{http_code}", url + "/status?code=" + code}})
		if got != code {
			t.Errorf("status %s, want %s", got, code)
		}
	}
	if version == "--http1.0" {
		return
	}
	head := curl(t, w.client, version, "-I", url+"/bytes?n=1234")
	if !strings.Contains(strings.ToLower(head), "content-length: 1234\r\n") {
		t.Errorf("HEAD: %q", head)
	}
	if version != "--http1.1" {
		return // this curl cannot use a connection of HTTP/2 without TLS twice, with or without a mesh
	}
	// Twice on one connection: the second is not opened anew.
	if got := curl(t, w.client, version, "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects},", url+"/show", url+"/show"); got != "1,0," {
		t.Errorf("connections of two requests: %s", got)
	}
}

// TestCurlUpgrades has curl ask for HTTP/2 by Upgrade. It gets it where the port is declared to be HTTP/2 in the clear.
func TestCurlUpgrades(t *testing.T) {
	needs(t, "curl")
	w := newWebs(t)
	declared := testnet.Service("app", w.servers["far"].Name, 80, 8080)
	declared.Name = unique(t, "framed")
	protocol := "kubernetes.io/h2c"
	declared.Spec.Ports[0].AppProtocol = &protocol
	ask := func(addr netip.AddrPort) string {
		out := curl(t, w.client, "--http2", "-w", "%{http_version}", "http://"+addr.String()+"/show")
		var seen struct{ Proto string }
		dec := json.NewDecoder(strings.NewReader(out))
		if err := dec.Decode(&seen); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		version, _ := io.ReadAll(dec.Buffered())
		return strings.TrimSpace(string(version)) + " " + seen.Proto
	}
	framed := addService(t, w.m, declared)[0]
	eventually(t, 10*time.Second, "the node knows the service, and HTTP/2 is spoken on both sides", func() error {
		if got := ask(framed); got != "2 HTTP/2.0" {
			return errors.New(got)
		}
		return nil
	})
	viaMesh(t, w.m, w.client, w.servers["far"], func() { ask(framed) })
	viaMesh(t, w.m, w.client, w.servers["far"], func() {
		if got := ask(w.services["far"][0]); got != "1.1 HTTP/1.1" {
			t.Errorf("on a port that declares nothing: %s", got)
		}
	})
}

// TestCurlBodies sends and gets 5 MB in each way that there is.
func TestCurlBodies(t *testing.T) {
	needs(t, "curl")
	w := newWebs(t)
	body := make([]byte, 5<<20)
	rand.Read(body)
	file, back := filepath.Join(w.dir, "body"), filepath.Join(w.dir, "back")
	if err := os.WriteFile(file, body, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"http1.1":  {"--http1.1", "-H", "Expect:"},
		"expect":   {"--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "15", "--max-time", "10"},
		"chunked":  {"--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Expect:"},
		"http1.0":  {"--http1.0", "-H", "Expect:"},
		"http2":    {"--http2-prior-knowledge"},
		"unsized2": {"--http2-prior-knowledge", "-H", "Content-Length:"},
	} {
		for where, server := range w.servers {
			t.Run(name+"/"+where, func(t *testing.T) {
				viaMesh(t, w.m, w.client, server, func() {
					out := curl(t, w.client, append(args, "--data-binary", "@"+file, "-o", back, "-w", "%header{x-length}", fmt.Sprintf("http://%s/echo", w.services[where][0]))...)
					got, err := os.ReadFile(back)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, body) {
						t.Errorf("%d bytes came back and differ from %d", len(got), len(body))
					}
					if wantLength := name != "chunked" && name != "unsized2"; wantLength != (out == fmt.Sprint(len(body))) {
						t.Errorf("the server saw the length %q", out)
					}
				})
			})
		}
	}
}

// TestHeaderCase shows an app of HTTP/1.1 the header names as its client wrote them, and the client those of the app.
func TestHeaderCase(t *testing.T) {
	needs(t, "curl")
	p := newTCPPair(t)
	l := listen(t, p.server, ":7000")
	viaMesh(t, p.m, p.client, p.server, func() {
		var head string
		done := serve(l, func(c *net.TCPConn) error {
			r := bufio.NewReader(c)
			for !strings.HasSuffix(head, "\r\n\r\n") {
				line, err := r.ReadString('\n')
				if err != nil {
					return err
				}
				head += line
			}
			_, err := c.Write([]byte("HTTP/1.1 200 Very Well\r\nx-LOWER-upper: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
			return err
		})
		out := curl(t, p.client, "--http1.1", "-i", "-H", "x-some-ID: a", "-H", "SOAPAction: b", "-A", "me", fmt.Sprintf("http://%s/a%%2Fb?c#d", p.vip))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(head, "\r\n")
		if lines[0] != "GET /a%2Fb?c HTTP/1.1" {
			t.Errorf("request line %q", lines[0])
		}
		for _, want := range []string{"x-some-ID: a", "SOAPAction: b", "User-Agent: me", "Host: " + p.vip.String(), "Accept: */*"} {
			if !slices.Contains(lines, want) {
				t.Errorf("the app lacks %q in %q", want, lines)
			}
		}
		if !strings.Contains(out, "\r\nx-LOWER-upper: 1\r\n") || !strings.HasSuffix(out, "ok") {
			t.Errorf("the client got %q", out)
		}
		if strings.Contains(strings.ToLower(head), "fairlead") {
			t.Errorf("the app got a header of ours: %q", head)
		}
	})
}
