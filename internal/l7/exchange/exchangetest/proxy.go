package exchangetest

import (
	"net"
	"sync"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h1"
	"fairlead.io/fairlead/internal/l7/h2"
)

// The protocols that a Proxy speaks on either side.
const (
	H1      = "h1"
	H2      = "h2"
	Private = "private"
)

// Proxy is the smallest engine that two codecs work in: one loop, no policy.
type Proxy struct {
	Addr     string
	Loop     *Loop
	Limits   exchange.Limits
	Failures []exchange.Reason // of exchanges; the loop's own
	Conns    []*Conn           // all there ever were; the loop's own
	Servers  []exchange.Protocol
	Clients  []exchange.Protocol
	Heads    []exchange.Head // of requests; the loop's own

	down, up, target string
	ln               net.Listener
	group            sync.WaitGroup
	mux              *h2.Client
	idle             []*h1.Client
	waiting          []*order
	dialing          bool
}

// order is a request that has no upstream yet.
type order struct {
	x    *exchange.Exchange
	head exchange.Head
	end  bool
}

// NewProxy starts a proxy that speaks down to its clients and up to target. It ends with the test.
func NewProxy(t testing.TB, down, up, target string, lim exchange.Limits) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: ln.Addr().String(), Loop: NewLoop(), Limits: lim, down: down, up: up, target: target, ln: ln}
	go p.Loop.Run()
	p.group.Add(1)
	go p.accept()
	t.Cleanup(func() {
		ln.Close()
		p.group.Wait()
		p.Loop.Close()
	})
	return p
}

func (p *Proxy) accept() {
	defer p.group.Done()
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.add(nc, p.server)
	}
}

func (p *Proxy) add(nc net.Conn, protocol func(exchange.Transport) exchange.Protocol) {
	p.Loop.Add(nc, func(t exchange.Transport) exchange.Protocol {
		p.Conns = append(p.Conns, t.(*Conn))
		return protocol(t)
	})
}

func (p *Proxy) server(t exchange.Transport) exchange.Protocol {
	var s exchange.Protocol
	if p.down == H1 {
		s = h1.NewServer(t, h1.ServerConfig{Limits: p.Limits, Request: p.request})
	} else {
		s = h2.NewServer(t, h2.ServerConfig{Limits: p.Limits, Private: p.down == Private, Request: p.request})
	}
	p.Servers = append(p.Servers, s)
	return s
}

func (p *Proxy) request(x *exchange.Exchange, h *exchange.Head, end bool) {
	x.Observer = p
	p.Heads = append(p.Heads, h.Clone())
	p.waiting = append(p.waiting, &order{x, h.Clone(), end})
	p.serve()
}

// serve sends what waits, as far as there are connections, and dials if there are not.
func (p *Proxy) serve() {
	for len(p.waiting) > 0 {
		o := p.waiting[0]
		if o.x.Done() {
			p.waiting = p.waiting[1:]
			continue
		}
		up, err := p.send(o)
		if err == h2.ErrProtocol {
			p.waiting = p.waiting[1:]
			o.x.Fail(501, 12, "upgrade", "the application takes no upgrades")
			continue
		}
		if err != nil || up == nil {
			p.dial()
			return
		}
		p.waiting = p.waiting[1:]
		o.x.Bind(up)
	}
}

func (p *Proxy) send(o *order) (exchange.Side, error) {
	if p.up == H1 {
		for len(p.idle) > 0 {
			c := p.idle[len(p.idle)-1]
			p.idle = p.idle[:len(p.idle)-1]
			if c.Send(o.x, &o.head, o.end) == nil {
				return c, nil
			}
		}
		return nil, nil
	}
	if p.mux == nil {
		return nil, nil
	}
	return p.mux, p.mux.Send(o.x, &o.head, o.end)
}

func (p *Proxy) dial() {
	if p.dialing || p.up != H1 && p.mux != nil && p.mux.Streams() > 0 && !p.mux.CanSend() && !p.mux.Leaving() {
		return
	}
	p.dialing = true
	p.group.Add(1)
	go func() {
		defer p.group.Done()
		nc, err := net.Dial("tcp", p.target)
		if err != nil {
			p.Loop.Post(func() { p.dialing = false; p.failAll() })
			return
		}
		p.add(nc, p.client)
	}()
}

func (p *Proxy) failAll() {
	all := p.waiting
	p.waiting = nil
	for _, o := range all {
		o.x.Fail(503, 14, "connect", "no connection")
	}
}

func (p *Proxy) client(t exchange.Transport) exchange.Protocol {
	p.dialing = false
	if p.up == H1 {
		c := h1.NewClient(t, h1.ClientConfig{Limits: p.Limits, OnIdle: p.onIdle})
		p.Clients = append(p.Clients, c)
		p.onIdle(c)
		return c
	}
	c := h2.NewClient(t, h2.ClientConfig{Limits: p.Limits, Private: p.up == Private, OnReady: p.onReady})
	p.Clients = append(p.Clients, c)
	p.mux = c
	if p.up == Private {
		p.serve()
	}
	return c
}

func (p *Proxy) onIdle(c *h1.Client) {
	p.idle = append(p.idle, c)
	p.serve()
}

func (p *Proxy) onReady(*h2.Client) { p.serve() }

// ResponseHead implements exchange.Observer.
func (p *Proxy) ResponseHead(*exchange.Exchange, *exchange.Head) {}

// ResponseTrailers implements exchange.Observer.
func (p *Proxy) ResponseTrailers(*exchange.Exchange, []exchange.Field) {}

// Done implements exchange.Observer.
func (p *Proxy) Done(_ *exchange.Exchange, why exchange.Reason) {
	if why.Code != exchange.CodeNone {
		p.Failures = append(p.Failures, why)
	}
}
