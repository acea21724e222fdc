package l7

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
	"fairlead.io/fairlead/internal/mesh"
)

// maxShared bounds the HTTP/2 connections of one group: one, and more only while all are full.
const maxShared = 8

// wire is the form of an upstream connection.
type wire uint8

const (
	wireMesh wire = iota // fairlead-h2/1
	wireH1
	wireH2 // prior knowledge
)

// target is what an upstream connection may be shared for.
type target struct {
	pod     *pod
	addr    netip.AddrPort
	wire    wire
	account mesh.Account // whom the peer proved to be
	client  netip.Addr   // inbound: whom the app sees
}

// direction is that of the requests which go there.
func (t *target) direction() Direction {
	if t.client.IsValid() {
		return Inbound
	}
	return Outbound
}

func (g *group) budget() *exchange.Budget { return &g.t.pod.budgets[g.t.direction()] }

// group is the upstream connections to one target.
type group struct {
	w       *worker
	t       target
	conns   []*upstream
	idle    []*upstream // of HTTP/1, the last one used is the next
	waiting []*request
	dialing int
}

// send gives the request to a connection, now or as soon as there is one. With fresh, a connection that has served
// before will not do.
func (g *group) send(r *request, fresh bool) {
	v := busy
	if !fresh {
		v = g.offer(r)
	}
	switch v {
	case taken:
	case never:
		r.unknown()
	default:
		g.waiting = append(g.waiting, r)
		r.waitsIn = g
		r.patience = g.w.l.After(g.w.e.lim.Connect+g.w.e.lim.Handshake, r.impatient)
		if v == busy {
			g.dialMore(r)
		}
	}
}

// offer gives r to a connection that can take it.
func (g *group) offer(r *request) verdict {
	for len(g.idle) > 0 { // of HTTP/1
		u := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		if u.send(r) == taken {
			r.sent(u)
			return taken
		}
	}
	if g.t.wire == wireH1 {
		return busy
	}
	for _, u := range g.conns {
		switch v := u.send(r); v {
		case busy:
		case taken:
			r.sent(u)
			return taken
		default:
			return v
		}
	}
	return busy
}

// dialMore dials if there are more waiting than will be served by what is being dialled.
func (g *group) dialMore(r *request) {
	switch {
	case g.t.wire == wireH1 && g.dialing < len(g.waiting):
	case g.t.wire != wireH1 && g.dialing == 0 && g.staying() < maxShared:
	default:
		return
	}
	g.dialing++
	spec, ep, in := r.s.f.spec, r.ep, r.s.route.in
	if !g.w.e.aside(func() { g.dial(spec, ep, in) }) {
		g.w.l.Do(func() { g.failed(errStopped) })
	}
}

// staying counts the connections that are not about to go: those serve what they have, and nothing new.
func (g *group) staying() (n int) {
	for _, u := range g.conns {
		if u.h2 == nil || !u.h2.Leaving() {
			n++
		}
	}
	return n
}

// dial runs on a goroutine of its own.
func (g *group) dial(spec *Pod, ep *balance.Endpoint, in *arrival) {
	err := g.w.e.try(func() error { return g.connect(spec, ep, in) })
	if err != nil {
		g.w.l.Do(func() { g.failed(err) })
	}
}

func (g *group) connect(spec *Pod, ep *balance.Endpoint, in *arrival) error {
	p := g.t.pod
	if in != nil {
		ctx, cancel := context.WithTimeout(p.ctx, p.e.lim.Connect)
		defer cancel()
		c, err := p.e.brain.DialApp(ctx, spec, g.t.client, g.t.addr)
		if err != nil {
			return fmt.Errorf("%w to the app: %w", errConnect, err)
		}
		tune(c)
		return g.w.l.Attach(c, nil, g.start)
	}
	l, err := p.reach(p.ctx, spec, ep)
	if err != nil {
		return err
	}
	if err := p.secure(p.ctx, spec, l, ALPNHTTP); err != nil {
		return err
	}
	ep.Drop() // from here on requests are counted, not the connection
	return g.attach(l)
}

func (g *group) start(t exchange.Transport) exchange.Protocol { return g.startAs(t, nil) }

// startAs makes the codec of a connection that was dialled, to a server that has proved by state who it is. It runs on
// the loop.
func (g *group) startAs(t exchange.Transport, state *tls.ConnectionState) exchange.Protocol {
	g.dialing--
	loop.Own(t, g.t.pod)
	u := newUpstream(g, t)
	u.state = state
	g.conns = append(g.conns, u)
	g.serve(u)
	return u
}

// serve gives u what waits.
func (g *group) serve(u *upstream) {
	for i := 0; i < len(g.waiting); {
		r := g.waiting[i]
		v := u.send(r)
		if v == busy {
			break
		}
		if v == early {
			i++
			continue
		}
		g.waiting = slices.Delete(g.waiting, i, i+1)
		r.served()
		if v == taken {
			r.sent(u)
		} else {
			r.unknown()
		}
	}
	switch {
	case len(g.waiting) > 0 && !u.can():
		g.dialMore(g.waiting[0])
	case g.t.wire == wireH1 && u.can():
		g.idle = append(g.idle, u)
	}
}

// failed tells those who wait that there will be no connection: HTTP/1 one of them, HTTP/2 all.
func (g *group) failed(err error) {
	g.dialing--
	n := len(g.waiting)
	if g.t.wire == wireH1 {
		n = min(n, 1)
	}
	lost := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	for _, r := range lost {
		r.served()
		r.unreachable(err)
	}
	g.tidy()
}

func (g *group) cancel(r *request) {
	if i := slices.Index(g.waiting, r); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
	r.served()
	g.tidy()
}

// gone takes a connection out that has ended.
func (g *group) gone(u *upstream) {
	g.unlist(u)
	if i := slices.Index(g.conns, u); i >= 0 {
		g.conns = slices.Delete(g.conns, i, i+1)
	}
	if len(g.waiting) > 0 {
		g.dialMore(g.waiting[0])
	}
	g.tidy()
}

// unlist has no more requests given to u.
func (g *group) unlist(u *upstream) {
	if i := slices.Index(g.idle, u); i >= 0 {
		g.idle = slices.Delete(g.idle, i, i+1)
	}
}

func (g *group) tidy() {
	if len(g.conns)+len(g.waiting)+g.dialing == 0 && g.w.groups[g.t] == g {
		delete(g.w.groups, g.t)
	}
}

func (g *group) sweep(before time.Time) {
	for _, u := range slices.Clone(g.conns) {
		if u.active == 0 && u.last.Before(before) {
			g.unlist(u)
			u.drain()
		}
	}
}

func (g *group) drain() {
	for _, u := range slices.Clone(g.conns) {
		g.unlist(u)
		u.drain()
	}
}

func (g *group) shed() {
	for _, u := range slices.Clone(g.conns) {
		if u.h2 != nil {
			u.h2.Shed()
		}
	}
}
