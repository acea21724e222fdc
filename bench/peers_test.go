package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is asked of HAProxy and nginx: TLS that verifies both ends, connections that are kept, and the protocol that is best between them.
func TestPeersAreAskedForTheirBest(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"haproxy a": {haproxyA("/dir", 2, "10.0.0.2", "10.0.0.3"), []string{"nbthread 2\n", "server s 10.0.0.2:9121 ssl crt /dir/proxy-a.pem ca-file /dir/ca.pem verify required verifyhost proxy-b alpn h2\n",
			"bind 127.0.0.1:9112 proto h2\n", "bind 127.0.0.1:9111\n", "server s 10.0.0.3:8081\n", "server s 10.0.0.3:9121 ssl", "server s 10.0.0.2:9125 ssl"}},
		"haproxy b": {haproxyB("/dir", 1), []string{"bind :9121 ssl crt /dir/proxy-b.pem ca-file /dir/ca.pem verify required alpn h2\n", "server s 127.0.0.1:8081\n", "server s 127.0.0.1:8083 proto h2\n",
			"bind :9125 ssl crt /dir/proxy-b.pem ca-file /dir/ca.pem verify required\n  server s 127.0.0.1:8084\n"}},
		"nginx a": {nginxA("/dir", 1, "10.0.0.2"), []string{"server { listen 127.0.0.1:9131 backlog=4096; location / { proxy_pass https://up-h1; } }", "server { listen 127.0.0.1:9133 http2 backlog=4096; location / { grpc_pass grpcs://up-grpc; } }",
			"upstream up-h2 { server 10.0.0.2:9142; keepalive 512;", "proxy_ssl_verify on;", "grpc_ssl_verify on;", "grpc_ssl_name proxy-b;", `proxy_set_header Connection "";`}},
		"nginx b": {nginxB("/dir", 1), []string{"listen 9141 ssl backlog=4096; location / { proxy_pass http://up-h1; }", "listen 9143 ssl http2 backlog=4096; location / { grpc_pass grpc://up-grpc; }",
			"ssl_verify_client on;", "upstream up-h2 { server 127.0.0.1:8081; keepalive 512;", "upstream up-grpc { server 127.0.0.1:8083;"}},
	} {
		for _, w := range tc.want {
			if !strings.Contains(tc.text, w) {
				t.Errorf("%s: no %q in\n%s", name, w, tc.text)
			}
		}
	}
}

func TestEnvoyConfig(t *testing.T) {
	for name, want := range map[string][]string{
		nameA: {`"sni":"proxy-b"`, `"exact":"proxy-b"`, `"port_value":9181`, `"address":"10.0.0.2"`, `"filename":"/dir/ca.pem"`, `"codec_type":"HTTP1"`},
		nameB: {`"require_client_certificate":true`, `"port_value":8083`, `"address":"127.0.0.1"`, `"filename":"/dir/proxy-b.pem"`, `"http_protocol_options":{}`},
	} {
		text, err := envoyConfig("/dir", name, "10.0.0.2")
		if err != nil {
			t.Fatal(err)
		}
		var parsed any
		if err := json.Unmarshal([]byte(text), &parsed); err != nil {
			t.Fatal(err)
		}
		flat, err := json.Marshal(parsed)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(flat), w) {
				t.Errorf("%s: no %s in %s", name, w, flat)
			}
		}
	}
}

// No two programs want one port in one pod.
func TestPortsDiffer(t *testing.T) {
	taken := map[int]string{haproxyTCP: "tcp", haproxyBulk: "bulk", haproxyBulk + secured: "bulk", haproxyNear: "near", forwardTCP: "forward", copyA: "copy", copyB: "copy",
		originH1: "origin", originH2: "origin", originGRPC: "origin", originBulk: "origin"}
	for _, p := range []peer{haproxyPeer, nginxPeer, reversePeer, envoyPeer} {
		for _, r := range routes {
			for _, port := range []int{p.port(r.protocol), p.port(r.protocol) + secured} {
				if other := taken[port]; other != "" {
					t.Errorf("%s and %s want port %d", p.name, other, port)
				}
				taken[port] = p.name
			}
		}
	}
}

func TestChildren(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	parent := exec.CommandContext(ctx, "sh", "-c", "sleep 10 & wait")
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	got, err := children(ctx, parent.Process.Pid)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if err := exec.Command("kill", "-0", "--", strings.Trim(strings.Join(strings.Fields(jsonOf(t, got)), ""), "[]")).Run(); err != nil {
		t.Errorf("%v is no process: %v", got, err)
	}
	for _, pid := range append(got, parent.Process.Pid) {
		_ = exec.Command("kill", "-9", "--", jsonOf(t, pid)).Run()
	}
	_ = parent.Wait() // it was killed
	if got, err := children(t.Context(), 1<<28); err == nil {
		t.Errorf("%v of a process that is not there", got)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFindEnvoy(t *testing.T) {
	if got, err := findEnvoy(t.TempDir()); err == nil {
		t.Errorf("found %s where nothing is", got)
	}
	if got := envoyVersion("/x/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL"); got != "Envoy 1.40.0" {
		t.Error(got)
	}
	if got := filepath.Base(lastLine("a\nb/c\n")); got != "c" {
		t.Error(got)
	}
}

func TestEstablished(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:A0B2 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:1F92 0100007F:A0B4 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:A0B2 0100007F:1F91 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 10 -1
   4: 0100007F:1F91 0100007F:A0B6 06 00000000:00000000 00:00000000 00000000     0        0 5 1 0 20 4 30 10 -1
`
	if got := established(table, originH1); got != 1 {
		t.Errorf("%d, want 1", got)
	}
}
