package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"fairlead.io/fairlead/internal/testnet"
)

// The ports that contenders listen on, in the pod that they stand before.
const (
	haproxyTCP  = 9104
	haproxyH1   = 9111
	haproxyH2   = 9112
	haproxyGRPC = 9113
	forwardTCP  = 9204
	// secured is what is added to the port of A for the port of B.
	secured = 10
)

// haproxyBase is HAProxy at its best here: one thread for one processor, connections that are kept and shared, and HTTP/2 over TLS 1.3
// between the two. It would want two descriptors for each connection of maxconn, and starts without them when it need not.
const haproxyBase = `global
  nbthread 1
  maxconn 12000
  no strict-limits
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout http-keep-alive 3600s
  http-reuse always
  option splice-auto
`

// route is one way through a pair of HAProxys.
type route struct {
	name   string
	port   int // of A
	origin int
	h2     bool // what the application speaks
}

var haproxyRoutes = []route{{"h1", haproxyH1, originH1, false}, {"h2", haproxyH2, originH2, true}, {"grpc", haproxyGRPC, originGRPC, true}}

// haproxyA is the configuration of the client's side: it balances by host, as who is told of Services has to.
func haproxyA(dir string, b, local string) string {
	var t strings.Builder
	t.WriteString(haproxyBase)
	for _, r := range haproxyRoutes {
		fmt.Fprintf(&t, "frontend f-%s\n  bind 127.0.0.1:%d%s\n  use_backend b-%s if { hdr(host) -i %s }\n  default_backend b-%s\n",
			r.name, r.port, ifH2(r.h2, " proto h2"), r.name, authority, r.name)
		fmt.Fprintf(&t, "backend b-%s\n  server s %s:%d ssl crt %s ca-file %s verify required verifyhost %s alpn h2\n",
			r.name, b, r.port+secured, filepath.Join(dir, nameA+".pem"), filepath.Join(dir, fileCA), nameB)
	}
	fmt.Fprintf(&t, "frontend f-tcp\n  mode tcp\n  bind 127.0.0.1:%d\n  default_backend b-tcp\n", haproxyTCP)
	fmt.Fprintf(&t, "backend b-tcp\n  mode tcp\n  server s %s:%d\n", local, originH1)
	return t.String()
}

// haproxyB is that of the origin's side.
func haproxyB(dir string) string {
	var t strings.Builder
	t.WriteString(haproxyBase)
	for _, r := range haproxyRoutes {
		fmt.Fprintf(&t, "frontend f-%s\n  bind :%d ssl crt %s ca-file %s verify required alpn h2\n  default_backend b-%s\n",
			r.name, r.port+secured, filepath.Join(dir, nameB+".pem"), filepath.Join(dir, fileCA), r.name)
		fmt.Fprintf(&t, "backend b-%s\n  server s 127.0.0.1:%d%s\n", r.name, r.origin, ifH2(r.h2, " proto h2"))
	}
	return t.String()
}

func ifH2(h2 bool, text string) string {
	if h2 {
		return text
	}
	return ""
}

// startHAProxy starts a pair: A before the client, B before the origin.
func (s *stage) startHAProxy(ctx context.Context) error {
	if err := writeCertificates(s.dir); err != nil {
		return fmt.Errorf("certificates of HAProxy: %w", err)
	}
	for _, p := range []struct {
		pod        *testnet.Pod
		name, conf string
		port       int
	}{
		{s.plain.origin, "haproxy-b", haproxyB(s.dir), haproxyH1 + secured},
		{s.plain.client, "haproxy-a", haproxyA(s.dir, s.plain.origin.Addr(4).String(), s.plain.local.Addr(4).String()), haproxyH1},
	} {
		conf := filepath.Join(s.dir, p.name+".cfg")
		if err := os.WriteFile(conf, []byte(p.conf), 0o600); err != nil {
			return err
		}
		proc, err := p.pod.Start(testnet.Command{Path: "haproxy", Args: []string{"-f", conf, "-db"}, Log: p.name + ".log"})
		if err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
		s.haproxy = append(s.haproxy, proc)
		if err := waitListening(ctx, p.pod, p.port); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}
