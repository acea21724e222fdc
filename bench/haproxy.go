package main

import (
	"fmt"
	"strings"

	"fairlead.io/fairlead/internal/testnet"
)

// The ports that HAProxy and the forwarder listen on beside those of every pair.
const (
	haproxyTCP  = 9114 // one pass in plain text, to the origin beside the client
	haproxyBulk = 9115 // opaque TCP over TLS
	haproxyNear = 9116 // HTTP/1.1 to the pair's B beside the client
	forwardTCP  = 9204
)

const haproxy = "haproxy"

var haproxyPeer = peer{name: haproxy, ports: haproxyPorts, side: (*stage).haproxySide}

// haproxyBase is HAProxy at its best here: one thread for one processor, connections that are kept and shared, and HTTP/2 over TLS 1.3
// between the two. It would want two descriptors for each connection of maxconn, and starts without them when it need not.
const haproxyBase = `global
  nbthread %d
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

// haproxyA is the configuration of the client's side: it balances by host, as who is told of Services has to.
func haproxyA(dir string, threads int, b, local string) string {
	var t strings.Builder
	fmt.Fprintf(&t, haproxyBase, threads)
	tls := fmt.Sprintf("ssl crt %s ca-file %s verify required verifyhost %s", pem(dir, nameA), ca(dir), nameB)
	front := func(name string, port int, h2 bool, to string) {
		fmt.Fprintf(&t, "frontend f-%s\n  bind 127.0.0.1:%d%s\n  use_backend b-%s if { hdr(host) -i %s }\n  default_backend b-%s\n",
			name, port, ifH2(h2, " proto h2"), name, authority, name)
		fmt.Fprintf(&t, "backend b-%s\n  server s %s %s alpn h2\n", name, to, tls)
	}
	for _, r := range routes {
		port := haproxyPorts.port(r.protocol)
		front(r.name, port, r.h2, fmt.Sprintf("%s:%d", b, port+secured))
	}
	front("near", haproxyNear, false, fmt.Sprintf("%s:%d", local, haproxyPorts.port(http1)+secured))
	fmt.Fprintf(&t, "listen tcp\n  mode tcp\n  bind 127.0.0.1:%d\n  server s %s:%d\n", haproxyTCP, local, originH1)
	fmt.Fprintf(&t, "listen bulk\n  mode tcp\n  bind 127.0.0.1:%d\n  server s %s:%d %s\n", haproxyBulk, b, haproxyBulk+secured, tls)
	return t.String()
}

// haproxyB is that of the origin's side.
func haproxyB(dir string, threads int) string {
	var t strings.Builder
	fmt.Fprintf(&t, haproxyBase, threads)
	tls := fmt.Sprintf("ssl crt %s ca-file %s verify required", pem(dir, nameB), ca(dir))
	for _, r := range routes {
		fmt.Fprintf(&t, "frontend f-%s\n  bind :%d %s alpn h2\n  default_backend b-%s\n", r.name, haproxyPorts.port(r.protocol)+secured, tls, r.name)
		fmt.Fprintf(&t, "backend b-%s\n  server s 127.0.0.1:%d%s\n", r.name, r.origin, ifH2(r.h2, " proto h2"))
	}
	fmt.Fprintf(&t, "listen bulk\n  mode tcp\n  bind :%d %s\n  server s 127.0.0.1:%d\n", haproxyBulk+secured, tls, originBulk)
	return t.String()
}

func ifH2(h2 bool, text string) string {
	if h2 {
		return text
	}
	return ""
}

func (s *stage) haproxySide(name, b string) (testnet.Command, error) {
	text := haproxyB(s.dir, len(s.places.proxies))
	if name == nameA {
		text = haproxyA(s.dir, len(s.places.proxies), b, s.plain.local.Addr(4).String())
	}
	conf, err := s.configFile("haproxy-"+name+".cfg", text)
	return testnet.Command{Path: "haproxy", Args: []string{"-f", conf, "-db"}}, err
}
