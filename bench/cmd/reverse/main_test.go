package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/bench/mtls"
)

func TestParseWay(t *testing.T) {
	if got, err := parseWay(":1,h2,a:2"); err != nil || got != (way{":1", "a:2", true}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", ":1,h2", ":1,h3,a:2", ":1,h1,a:2,b"} {
		if got, err := parseWay(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
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

// A request goes through the pair in the protocol of the plain sides, with host, body and trailer.
func TestPair(t *testing.T) {
	dir := t.TempDir()
	if err := mtls.WriteCertificates(dir, "a", "b"); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(dir, mtls.CAFile)
	client, err := mtls.Config(filepath.Join(dir, "a.pem"), ca, "b")
	if err != nil {
		t.Fatal(err)
	}
	server, err := mtls.Config(filepath.Join(dir, "b.pem"), ca, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, major := range map[string]int{"h1": 1, "h2": 2} {
		t.Run(name, func(t *testing.T) {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(major == 1)
			protocols.SetUnencryptedHTTP2(major == 2)
			origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-End")
				body, _ := io.ReadAll(r.Body) // what is missing is seen in the answer
				fmt.Fprintf(w, "%d %s %s", r.ProtoMajor, r.Host, body)
				w.Header().Set("X-End", "yes")
			}))
			origin.Config.Protocols = protocols
			origin.Start()
			defer origin.Close()
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			a, b := freeAddr(t), freeAddr(t)
			go func() {
				ended <- run(ctx, []way{{listen: b, to: origin.Listener.Addr().String(), h2: major == 2}}, server)
			}()
			go func() { ended <- run(ctx, []way{{listen: a, to: b, h2: major == 2}}, client) }()
			c := &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 5 * time.Second}
			if got, want := ask(t, c, a), fmt.Sprintf("%d some.host hello yes", major); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			stop()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// ask posts as soon as both listen, and says the answer with its trailer.
func ask(t *testing.T, c *http.Client, addr string) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		r, err := http.NewRequest(http.MethodPost, "http://"+addr, io.NopCloser(io.LimitReader(hellos{}, 5)))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "some.host"
		resp, err := c.Do(r)
		if err == nil && resp.StatusCode == http.StatusOK {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return string(body) + " " + resp.Trailer.Get("X-End")
		}
		if err == nil {
			resp.Body.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer: %v, %v", resp, err)
		}
		time.Sleep(5 * time.Millisecond) // a poll's pause
	}
}

// hellos is one hello after the other.
type hellos struct{}

func (hellos) Read(b []byte) (int, error) { return copy(b, "hello"), nil }

// Whose certificate is of another CA gets nothing through.
func TestAStrangerIsRefused(t *testing.T) {
	ours, theirs := t.TempDir(), t.TempDir()
	for _, dir := range []string{ours, theirs} {
		if err := mtls.WriteCertificates(dir, "a"); err != nil {
			t.Fatal(err)
		}
	}
	server, err := mtls.Config(filepath.Join(ours, "a.pem"), filepath.Join(ours, mtls.CAFile), "")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := mtls.Config(filepath.Join(theirs, "a.pem"), filepath.Join(ours, mtls.CAFile), "a")
	if err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request has come") }))
	defer origin.Close()
	l := httptest.NewUnstartedServer(way{to: origin.Listener.Addr().String()}.handler(server))
	l.TLS = server
	l.EnableHTTP2 = true
	l.StartTLS()
	defer l.Close()
	a := httptest.NewServer(way{to: l.Listener.Addr().String()}.handler(stranger))
	defer a.Close()
	resp, err := http.Get(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Error(resp.Status)
	}
}
