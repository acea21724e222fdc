package l7

import (
	"crypto/tls"
	"errors"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h1"
	"fairlead.io/fairlead/internal/l7/h2"
	"fairlead.io/fairlead/internal/l7/loop"
)

// meshPing is the silence after which a mesh connection is tried, from both of its ends. Apps are not pinged: some take it for an attack.
const meshPing = 30 * time.Second

// client is what the codecs' clients have in common.
type client interface {
	exchange.Protocol
	exchange.Side
	Send(x *exchange.Exchange, h *exchange.Head, end bool) error
	Drain()
}

// upstream is one upstream connection. As a Protocol it is the codec's client, with its end noted.
type upstream struct {
	client
	g      *group
	h1     *h1.Client // one of the two
	h2     *h2.Client
	last   time.Time // of the last request's end
	active int
	heard  bool // the peer's settings have come
	ended  bool
	state  *tls.ConnectionState // of a mesh hop
}

func newUpstream(g *group, t exchange.Transport) *upstream {
	u := &upstream{g: g, last: g.w.l.Now()}
	lim, budget := g.w.e.lim.HTTP, g.budget()
	if g.t.wire == wireH1 {
		u.h1 = h1.NewClient(t, h1.ClientConfig{Limits: lim, Budget: budget, Memo: &g.w.lines, OnIdle: func(*h1.Client) { u.ready() }})
		u.client = u.h1
		return u
	}
	cfg := h2.ClientConfig{Limits: lim, Budget: budget, Shared: &g.w.shared, OnReady: func(*h2.Client) { u.heard = true; u.ready() }}
	if g.t.wire == wireMesh {
		cfg.Private, cfg.Ping = true, meshPing
	}
	u.h2 = h2.NewClient(t, cfg)
	u.client = u.h2
	return u
}

// can tells whether u can take a request.
func (u *upstream) can() bool {
	switch {
	case u.ended || u.client == nil:
		return false
	case u.h1 != nil:
		return u.h1.Idle()
	}
	return u.h2.CanSend()
}

// answer of an upstream that is offered a request.
type verdict uint8

const (
	busy  verdict = iota // it cannot take a request now
	early                // it cannot take this one before the peer's settings have come
	never                // the peer does not know what the request asks for
	taken
)

// send offers u a request. When it is taken, the caller calls r.sent.
func (u *upstream) send(r *request) verdict {
	if !u.can() {
		return busy
	}
	err := u.Send(&r.x, r.outgoing(), r.ended())
	switch {
	case err == nil:
		u.active++
		u.last = u.g.w.l.Now()
		return taken
	case !errors.Is(err, h2.ErrProtocol):
		return busy
	case u.heard:
		return never
	}
	return early
}

// done is called when a request that u was given has ended.
func (u *upstream) done() {
	u.active--
	u.last = u.g.w.l.Now()
}

// ready gives u what waits. The codec has finished its own work with the connection.
func (u *upstream) ready() {
	if !u.ended {
		u.g.serve(u)
	}
}

func (u *upstream) drain() { u.Drain() }

// Closed implements exchange.Protocol.
func (u *upstream) Closed(err error) {
	u.ended = true
	u.g.unlist(u)
	u.client.Closed(err)
	u.g.gone(u)
}

// attach gives a link to the group's loop.
func (g *group) attach(l *link) error {
	if sec, ok := l.s.(*loop.Secure); ok {
		state := sec.ConnectionState()
		return g.w.l.AttachTLS(sec, func(t exchange.Transport) exchange.Protocol { return g.startAs(t, &state) })
	}
	return g.w.l.Attach(below(l.s), nil, g.start)
}
