package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// The ports of every origin.
const (
	originH1   = 8081
	originH2   = 8082
	originGRPC = 8083
)

// Sizes of what an origin answers, without heads: a page, and a message of gRPC with what is before it.
const (
	pageSize    = 256
	messageSize = 128
	frameHead   = 5
)

// echoPath is the method that cmd/origin serves.
const echoPath = "/bench.Echo/Unary"

const nginxConf = `worker_processes 1;
daemon off;
user root;
pid %[1]s/%[2]s.pid;
error_log stderr crit;
worker_rlimit_nofile 30000;
events { worker_connections 12000; multi_accept on; }
http {
	access_log off;
	keepalive_requests 1000000000;
	keepalive_timeout 3600;
	tcp_nodelay on;
	http2_max_concurrent_streams 1024;
	default_type application/json;
	client_body_temp_path %[1]s/%[2]s-1;
	proxy_temp_path %[1]s/%[2]s-2;
	fastcgi_temp_path %[1]s/%[2]s-3;
	uwsgi_temp_path %[1]s/%[2]s-4;
	scgi_temp_path %[1]s/%[2]s-5;
	sendfile on;
	tcp_nopush on;
	open_file_cache max=16;
	server { listen %[3]d backlog=4096; root %[1]s; location / { return 200 "%[5]s"; } location /size/ { } }
	server { listen %[4]d http2 backlog=4096; root %[1]s; location / { return 200 "%[5]s"; } location /size/ { } }
}
`

// startOrigin starts nginx and the gRPC server in a pod and waits until they listen.
func (s *stage) startOrigin(ctx context.Context, p *testnet.Pod) error {
	name := p.Namespace + "-" + p.Name
	conf := filepath.Join(s.dir, name+".conf")
	text := fmt.Sprintf(nginxConf, s.dir, name, originH1, originH2, strings.Repeat("x", pageSize))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	nginx, err := p.Start(testnet.Command{Path: "nginx", Args: []string{"-c", conf, "-e", "stderr"}, Log: name + "-nginx.log"})
	if err != nil {
		return fmt.Errorf("start nginx: %w", err)
	}
	echo, err := p.Start(testnet.Command{Path: s.o.own("origin"), Args: []string{fmt.Sprintf("--listen=:%d", originGRPC), fmt.Sprintf("--bulk=:%d", originBulk)}, Log: name + "-grpc.log"})
	if err != nil {
		return fmt.Errorf("start the gRPC origin: %w", err)
	}
	s.origins, s.servers[p] = append(s.origins, nginx, echo), nginx
	for _, port := range []int{originH1, originH2, originGRPC, originBulk} {
		if err := waitListening(ctx, p, port); err != nil {
			return fmt.Errorf("origin in %s: %w", p.Name, err)
		}
	}
	return nil
}

// waitListening waits until something in the pod accepts connections on its loopback.
func waitListening(ctx context.Context, p *testnet.Pod, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		c, err := p.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for port %d: %w", port, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
