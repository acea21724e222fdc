package capture_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
	"fairlead.io/fairlead/internal/testnet/capture"
)

const secret = "correct horse battery staple"

// wire is two pods on two nodes, with captures at the pods and on the link between the nodes.
type wire struct {
	from, to *testnet.Pod
	lab      *testnet.Lab
}

func mustWire(t *testing.T) wire {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := testnet.BuildReferencePlugins(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	lab, err := testnet.New(testnet.Config{Plugins: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	w := wire{lab: lab}
	for i, p := range []**testnet.Pod{&w.from, &w.to} {
		if *p, err = lab.Node(i).AddPod(t.Context(), testnet.PodSpec{Name: fmt.Sprint("p", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// seen runs traffic under a capture of all four interfaces on its way.
func (w wire) seen(t *testing.T, traffic func()) capture.Stats {
	t.Helper()
	c, err := capture.New(secret, "nobody says this")
	if err != nil {
		t.Fatal(err)
	}
	for where, do := range map[string]func(func() error) error{"p0": w.from.Do, "p1": w.to.Do, "n1": w.lab.Node(0).Do, "n2": w.lab.Node(1).Do} {
		if err := c.Attach(where, do, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	traffic()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s := c.Stats()
	if s.Packets < 20 || s.Segments < 4 || s.Dropped > 0 || s.Cut > 0 {
		t.Errorf("saw %+v", s)
	}
	return s
}

// converse sends text in pieces from one pod to the other over the family, wrapped by both sides.
func (w wire) converse(t *testing.T, family int, pieces []string, dial, accept func(net.Conn) net.Conn) {
	t.Helper()
	var l net.Listener
	err := w.to.Do(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(w.to.Addr(family).String(), "8080"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		b, _ := io.ReadAll(accept(conn))
		heard <- string(b)
	}()
	conn, err := w.from.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	out := dial(conn)
	for _, p := range pieces {
		if _, err := io.WriteString(out, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != strings.Join(pieces, "") {
		t.Fatalf("heard %q", got)
	}
}

func plain(c net.Conn) net.Conn { return c }

func TestPlaintextIsSeenAndTLSIsNot(t *testing.T) {
	w := mustWire(t)
	for name, pieces := range map[string][]string{
		"whole":        {"say " + secret + "!"},
		"byte by byte": strings.Split(secret, ""),
		"long":         {strings.Repeat("x", 100_000), secret, strings.Repeat("y", 100_000)},
	} {
		for _, family := range []int{4, 6} {
			s := w.seen(t, func() { w.converse(t, family, pieces, plain, plain) })
			// Both pods and both nodes see it; a segment that is sent again is seen again.
			if s.Hits[secret] < 4 || s.Hits["nobody says this"] != 0 {
				t.Errorf("%s over IPv%d: %+v", name, family, s)
			}
			places := map[string]bool{}
			for _, h := range s.First {
				places[h.Where] = true
			}
			if len(places) != 4 {
				t.Errorf("%s over IPv%d: seen at %v", name, family, s.First)
			}
			places = map[string]bool{}
			for _, o := range s.Opened {
				if o.Src.Addr() != w.from.Addr(family) || o.Dst != netip.AddrPortFrom(w.to.Addr(family), 8080) {
					t.Errorf("%s over IPv%d: opened %+v", name, family, o)
				}
				places[o.Where] = true
			}
			if len(places) != 4 {
				t.Errorf("%s over IPv%d: opened at %v", name, family, s.Opened)
			}
		}
	}
	certificate := mustCertificate(t)
	for _, family := range []int{4, 6} {
		s := w.seen(t, func() {
			w.converse(t, family, []string{strings.Repeat(secret, 100)},
				func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) },
				func(c net.Conn) net.Conn {
					return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}})
				})
		})
		if len(s.Hits) != 0 {
			t.Errorf("TLS over IPv%d: %+v", family, s)
		}
	}
}

func mustCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
