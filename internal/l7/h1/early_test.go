package h1

import (
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// TestEarlyBytesAreGivenBack: a tunnel that ends before it was accepted keeps nothing.
func TestEarlyBytesAreGivenBack(t *testing.T) {
	for _, how := range []string{"reset", "closed", "broken"} {
		b := &exchange.Budget{Limit: 1 << 20}
		w := &wiretest.Wire{}
		c := NewClient(w, ClientConfig{Budget: b})
		x := &exchange.Exchange{Down: wiretest.Payer{Sink: &wiretest.Sink{}}, Tunnel: true}
		c.Send(x, &exchange.Head{Method: "GET", Authority: "a:1", Path: "/", Protocol: "x", Version: exchange.HTTP11, Length: -1}, false)
		x.Bind(c)
		x.RequestData(make([]byte, 100<<10), false)
		switch how {
		case "reset":
			x.RequestReset(exchange.Reason{Code: exchange.CodeCancel})
		case "broken":
			w.Feed(c, []byte("HTTP/1.1 bad\r\n\r\n"), 100)
		}
		c.Closed(nil)
		if n := b.Used(); n != 0 {
			t.Errorf("%s: %d bytes are counted behind the end", how, n)
		}
	}
}
