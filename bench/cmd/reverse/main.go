// Reverse is one of a pair of proxies made of net/http and its httputil.ReverseProxy: mutual TLS with HTTP/2 on the side between the
// two, plain HTTP/1.1 or HTTP/2 on the other. It is what a proxy costs that leaves everything to the standard library, set as is best for it.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fairlead.io/fairlead/bench/mtls"
)

// way is a listener and where its requests go.
type way struct {
	listen, to string
	h2         bool // the plain side speaks HTTP/2
}

func main() {
	var ways []way
	flag.Func("way", "listener, protocol of the plain side (h1 or h2) and where requests go, as :8080,h1,host:port; may be given often", func(s string) error {
		w, err := parseWay(s)
		ways = append(ways, w)
		return err
	})
	certificate := flag.String("certificate", "", "file of certificate and key")
	ca := flag.String("ca", "", "file of the CA's certificate")
	name := flag.String("server-name", "", "dial with TLS, to whom the certificate says this; else listen with TLS")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := mtls.Config(*certificate, *ca, *name)
	if err == nil {
		err = run(ctx, ways, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reverse:", err)
		os.Exit(1)
	}
}

func parseWay(s string) (way, error) {
	parts := strings.Split(s, ",")
	if len(parts) != 3 || parts[1] != "h1" && parts[1] != "h2" {
		return way{}, fmt.Errorf("no way: %q", s)
	}
	return way{listen: parts[0], to: parts[2], h2: parts[1] == "h2"}, nil
}

// run serves all ways until the context ends or one of them fails.
func run(ctx context.Context, ways []way, cfg *tls.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, len(ways))
	for _, w := range ways {
		go func() {
			err := w.serve(ctx, cfg)
			if err != nil {
				cancel(err)
			}
			ended <- err
		}()
	}
	var errs []error
	for range ways {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// serve answers on one listener until the context ends.
func (w way) serve(ctx context.Context, cfg *tls.Config) error {
	l, err := net.Listen("tcp", w.listen)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: w.handler(cfg), Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	if cfg.ServerName == "" {
		s.Protocols.SetHTTP2(true)
		s.TLSConfig = cfg.Clone()
		defer context.AfterFunc(ctx, func() { s.Close() })()
		err = s.ServeTLS(l, "", "")
	} else {
		s.Protocols.SetHTTP1(!w.h2)
		s.Protocols.SetUnencryptedHTTP2(w.h2)
		defer context.AfterFunc(ctx, func() { s.Close() })()
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve %s: %w", w.listen, err)
}
