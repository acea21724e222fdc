package main

import (
	"fmt"
	"strings"

	"fairlead.io/fairlead/internal/testnet"
)

var nginxPeer = peer{name: "nginx", ports: nginxPorts, side: (*stage).nginxSide, forks: true}

// nginxPair is Debian's nginx at its best here: one worker for one processor, HTTP/1.1 over TLS 1.3 between the two on connections that are
// kept, since it speaks no other HTTP to upstreams, and HTTP/2 there for gRPC; no body touches a disk. %[1]s is the directory, %[2]s the side.
const nginxPair = `worker_processes %[3]d;
daemon off;
user root;
pid %[1]s/nginx-%[2]s.pid;
error_log stderr crit;
worker_rlimit_nofile 60000;
events { worker_connections 24000; multi_accept on; }
http {
	access_log off;
	server_tokens off;
	tcp_nodelay on;
	keepalive_requests 1000000000;
	keepalive_timeout 3600;
	http2_max_concurrent_streams 1000;
	client_max_body_size 0;
	client_body_buffer_size 128k;
	client_body_temp_path %[1]s/nginx-%[2]s-1;
	proxy_temp_path %[1]s/nginx-%[2]s-2;
	fastcgi_temp_path %[1]s/nginx-%[2]s-3;
	uwsgi_temp_path %[1]s/nginx-%[2]s-4;
	scgi_temp_path %[1]s/nginx-%[2]s-5;
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	proxy_set_header Host $http_host;
	proxy_buffers 16 16k;
	proxy_max_temp_file_size 0;
	grpc_set_header Host $http_host;
	grpc_buffer_size 64k;
`

// nginxUpstream are the servers of one route.
const nginxUpstream = "\tupstream up-%s { server %s; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 3600; }\n"

// nginxSecure is TLS to upstreams, for proxy and for grpc.
const nginxSecure = `	%[1]s_ssl_protocols TLSv1.3;
	%[1]s_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	%[1]s_ssl_certificate %[2]s;
	%[1]s_ssl_certificate_key %[2]s;
	%[1]s_ssl_trusted_certificate %[3]s;
	%[1]s_ssl_verify on;
	%[1]s_ssl_name %[4]s;
`

// nginxServe is TLS to clients.
const nginxServe = `	ssl_protocols TLSv1.3;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	ssl_certificate %[1]s;
	ssl_certificate_key %[1]s;
	ssl_client_certificate %[2]s;
	ssl_verify_client on;
	ssl_session_cache shared:tls:4m;
`

// nginxA is the configuration of the client's side.
func nginxA(dir string, workers int, b string) string {
	var t strings.Builder
	fmt.Fprintf(&t, nginxPair, dir, "a", workers)
	for _, module := range []string{"proxy", "grpc"} {
		fmt.Fprintf(&t, nginxSecure, module, pem(dir, nameA), ca(dir), nameB)
	}
	for _, r := range routes {
		port := nginxPorts.port(r.protocol)
		fmt.Fprintf(&t, nginxUpstream, r.name, fmt.Sprintf("%s:%d", b, port+secured))
		pass := "proxy_pass https"
		if r.protocol == grpcUnary {
			pass = "grpc_pass grpcs"
		}
		fmt.Fprintf(&t, "\tserver { listen 127.0.0.1:%d%s backlog=4096; location / { %s://up-%s; } }\n", port, ifH2(r.h2, " http2"), pass, r.name)
	}
	return t.String() + "}\n"
}

// nginxB is that of the origin's side. What was asked for by HTTP/2 it asks the origin for by HTTP/1.1.
func nginxB(dir string, workers int) string {
	var t strings.Builder
	fmt.Fprintf(&t, nginxPair, dir, "b", workers)
	fmt.Fprintf(&t, nginxServe, pem(dir, nameB), ca(dir))
	for _, r := range routes {
		origin, pass, front := originH1, "proxy_pass http", ""
		if r.protocol == grpcUnary {
			origin, pass, front = r.origin, "grpc_pass grpc", " http2"
		}
		fmt.Fprintf(&t, nginxUpstream, r.name, fmt.Sprintf("127.0.0.1:%d", origin))
		fmt.Fprintf(&t, "\tserver { listen %d ssl%s backlog=4096; location / { %s://up-%s; } }\n", nginxPorts.port(r.protocol)+secured, front, pass, r.name)
	}
	return t.String() + "}\n"
}

func (s *stage) nginxSide(name, b string) (testnet.Command, error) {
	text := nginxB(s.dir, len(s.places.proxies))
	if name == nameA {
		text = nginxA(s.dir, len(s.places.proxies), b)
	}
	conf, err := s.configFile("nginx-"+name+".conf", text)
	return testnet.Command{Path: "nginx", Args: []string{"-c", conf, "-e", "stderr"}}, err
}
