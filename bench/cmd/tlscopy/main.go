// Tlscopy is the least that encrypts a byte stream in Go: mutual TLS of crypto/tls on one side, plain TCP on the other, and two copy loops
// for each connection. Two of them, one the other way around, are what a pair of proxies is measured against in bulk.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fairlead.io/fairlead/bench/mtls"
)

func main() {
	listen := flag.String("listen", "", "address")
	to := flag.String("to", "", "where connections go")
	certificate := flag.String("certificate", "", "file of certificate and key")
	ca := flag.String("ca", "", "file of the CA's certificate")
	name := flag.String("server-name", "", "dial with TLS, to whom the certificate says this; else listen with TLS")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, *to, *certificate, *ca, *name); err != nil {
		fmt.Fprintln(os.Stderr, "tlscopy:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen, to, certificate, ca, name string) error {
	cfg, err := mtls.Config(certificate, ca, name)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			if err := carry(c.(*net.TCPConn), to, cfg); err != nil && !errors.Is(err, net.ErrClosed) {
				fmt.Fprintln(os.Stderr, "tlscopy:", err)
			}
		}()
	}
}

// closeWriter is a TCP or a TLS connection.
type closeWriter interface {
	net.Conn
	CloseWrite() error
}

// carry dials the other side and copies until both directions have ended.
func carry(down *net.TCPConn, to string, cfg *tls.Config) error {
	defer down.Close()
	d := net.Dialer{Timeout: 5 * time.Second}
	up, err := d.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer up.Close()
	var a, b closeWriter = down, up.(*net.TCPConn)
	if cfg.ServerName != "" {
		b = tls.Client(up, cfg)
	} else {
		a = tls.Server(down, cfg)
	}
	errs := make(chan error, 2)
	go func() { errs <- copyTo(a, b) }()
	go func() { errs <- copyTo(b, a) }()
	return errors.Join(<-errs, <-errs)
}

func copyTo(dst, src closeWriter) error {
	// Hidden behind plain interfaces: else TCP's own ways of copying would be taken, with smaller buffers.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 64<<10))
	return errors.Join(err, dst.CloseWrite())
}
