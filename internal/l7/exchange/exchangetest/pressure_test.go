package exchangetest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// chain starts the proxies of a path and returns them all, the first one last.
func chain(t *testing.T, p path, target string) []*Proxy {
	b := NewProxy(t, p.client, p.app, target, exchange.Limits{})
	if p.middle == "" {
		return []*Proxy{b}
	}
	b = NewProxy(t, p.middle, p.app, target, exchange.Limits{})
	return []*Proxy{b, NewProxy(t, p.client, p.middle, b.Addr, exchange.Limits{})}
}

// bounded checks what the proxies' connections held at most.
func bounded(t *testing.T, all []*Proxy) {
	t.Helper()
	for _, p := range all {
		p.Loop.Do(func() {
			for _, c := range p.Conns {
				if c.MaxPending > 1<<20 || c.MaxIn > 1<<20 {
					t.Errorf("a connection held %d out, %d in", c.MaxPending, c.MaxIn)
				}
			}
		})
	}
}

// TestSlowApp has an app that does not read a large request for a while.
func TestSlowApp(t *testing.T) {
	const n = 24 << 20
	for _, p := range []path{{H1, "", H1}, {H1, Private, H1}, {H2, "", H1}, {H1, "", H2}, {H2, Private, H2}} {
		t.Run(p.String(), func(t *testing.T) {
			goOn := make(chan bool)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-goOn
				h := sha256.New()
				io.Copy(h, r.Body)
				fmt.Fprintf(w, "%x", h.Sum(nil))
			}))
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
			defer s.Close()
			all := chain(t, p, s.Listener.Addr().String())
			go func() { still(t, all); close(goOn) }()
			r, err := client(t, p.client).Post("http://"+all[len(all)-1].Addr, "text/plain", bytes.NewReader(pattern(n)))
			if got, want := read(t, r, err), fmt.Sprintf("%x", sha256.Sum256(pattern(n))); got != want {
				t.Errorf("got %q", got)
			}
			bounded(t, all)
		})
	}
}

// TestStalledStream has one client that does not read: others on the same private connection go on.
func TestStalledStream(t *testing.T) {
	all := chain(t, path{H1, Private, H1}, origin(t))
	url := "http://" + all[1].Addr
	c := client(t, H1)
	var stalled []*http.Response
	for range 3 {
		r, err := c.Get(url + "/bytes?n=16777216")
		if err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, r)
	}
	still(t, all)
	for range 20 {
		r, err := c.Get(url + "/bytes?n=200000")
		if got := read(t, r, err); len(got) != 200_000 {
			t.Fatalf("%d bytes", len(got))
		}
	}
	for _, r := range stalled {
		if got := read(t, r, nil); len(got) != 16<<20 {
			t.Errorf("the stalled response has %d bytes", len(got))
		}
	}
	all[1].Loop.Do(func() {
		if len(all[1].Clients) != 1 {
			t.Errorf("%d connections between the proxies", len(all[1].Clients))
		}
	})
	bounded(t, all)
}
