package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/bench/load"
	"fairlead.io/fairlead/bench/mtls"
)

// certificates are those of a CA of its own: a file with a certificate for "proxy", and one with the CA's.
func certificates(t *testing.T) (proxy, ca string) {
	t.Helper()
	dir := t.TempDir()
	if err := mtls.WriteCertificates(dir, "proxy"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "proxy.pem"), filepath.Join(dir, mtls.CAFile)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Bulk through a pair comes whole, and a pair whose certificates do not fit carries nothing.
func TestPair(t *testing.T) {
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	go func() { _ = load.ServeBulk(origin) }() // ends with the listener
	good, ca := certificates(t)
	other, _ := certificates(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	b := freeAddr(t)
	go func() { ended <- serve(ctx, b, origin.Addr().String(), good, ca, "") }()
	for certificate, isCarried := range map[string]bool{good: true, other: false} {
		a := freeAddr(t)
		go func() { ended <- serve(ctx, a, b, certificate, ca, "proxy") }()
		for _, addr := range []string{a, b} {
			await(t, addr)
		}
		if err := load.Fetch(ctx, a, 2, 5<<20); (err == nil) != isCarried {
			t.Errorf("carried: %v, want %t", err, isCarried)
		}
	}
	stop()
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func await(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // a poll's pause
	}
}
