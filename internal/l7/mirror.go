package l7

import (
	"math/rand/v2"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/routing"
)

// copies are what mirrors get of a request. They are sent when it is whole, and no sooner: a copy neither waits for the request's
// endpoint nor keeps it waiting.
type copies struct {
	to   []*routing.MirrorTo
	body []byte
}

// copyTime is how long a copy may take, its connection included.
const copyTime = 30 * time.Second

// take keeps what has come of the body. One that is too long has no copies.
func (c *copies) take(r *request, b []byte, trailers []exchange.Field, end bool) {
	w := r.s.w
	if len(c.body)+len(b) > w.e.lim.Replay || r.x.Tunnel || r.s.f.budget().Tight() {
		c.drop(r)
		return
	}
	if len(b) > 0 {
		c.body = w.bodies.Append(c.body, b)
		r.keep(len(r.upTap.kept))
	}
	if end {
		c.send(r, trailers)
	}
}

// send sends all copies.
func (c *copies) send(r *request, trailers []exchange.Field) {
	for i, to := range c.to {
		c.to[i] = nil
		if !r.s.w.copy(r, to, c.body, trailers) {
			r.event(EventMirrorDropped)
		} else {
			r.rec.Mirrored++
		}
	}
	c.to = c.to[:0]
	c.forget(r)
}

// drop gives up what was not sent.
func (c *copies) drop(r *request) {
	for i := range c.to {
		c.to[i] = nil
		r.event(EventMirrorDropped)
	}
	c.to = c.to[:0]
	c.forget(r)
}

// forget gives the room of the body back.
func (c *copies) forget(r *request) {
	if cap(c.body) > keptBody {
		r.s.w.bodies.Give(c.body)
		c.body = nil
	}
	c.body = c.body[:0]
	if r.kept.Held() > 0 {
		r.keep(len(r.upTap.kept))
	}
}

// copy sends a copy of a request. It is a request of its own that nobody waits for.
func (w *worker) copy(of *request, to *routing.MirrorTo, body []byte, trailers []exchange.Field) bool {
	p := of.s.f.p
	if p.copies.Add(1) > w.e.lim.Copies {
		p.copies.Add(-1)
		return false
	}
	r := w.requests.Get().User.(*request)
	x := &r.x
	x.Hold() // until Done
	x.Down, x.Observer, x.Head = sink{x}, r, of.x.Head
	x.RequestEnded()
	r.s, r.copied = of.s, true
	asked := of.outgoing()
	fields := r.head.Fields[:0]
	r.head = *asked
	r.head.Fields = append(fields, asked.Fields...)
	r.head.Service = to.Label
	to.Filters.Request(&r.head, of.way.prefix)
	r.rec = RequestRecord{Direction: Outbound, Pod: of.rec.Pod, GRPC: of.rec.GRPC, Version: of.rec.Version, Head: &r.head}
	r.tries = attempts{p: p, spec: of.s.f.spec, dst: of.s.route.dst, cluster: to.Cluster, client: of.s.f.peer.Addr(), tried: r.tries.tried[:0]}
	r.upTap = upTap{r: r, end: true, kept: r.upTap.kept[:0], bytes: int64(len(body)), trailers: trailers}
	if len(body) > 0 {
		r.upTap.kept = w.bodies.Append(r.upTap.kept, body)
	}
	r.kept.Open(of.s.f.budget())
	r.keep(len(body))
	w.copies[r] = struct{}{}
	r.clocks.ofRequest = w.l.After(copyTime, r.late)
	x.Hold()
	w.l.Post(func() { // the codec of the request that it is a copy of is at work
		defer x.Drop()
		if !x.Done() {
			r.first()
		}
	})
	return true
}

// copyDone is Done of a copy.
func (r *request) copyDone() {
	delete(r.s.w.copies, r)
	r.s.f.p.copies.Add(-1)
	r.kept.Set(0)
	r.x.Drop()
}

// endCopies gives up the copies that are under way, when the loop has ended.
func (w *worker) endCopies() {
	for r := range w.copies {
		r.x.RequestReset(exchange.Reason{Code: exchange.CodeCancel})
	}
}

// sink is the downstream of a copy: nobody reads the response.
type sink struct{ x *exchange.Exchange }

func (sink) WriteHead(*exchange.Exchange, *exchange.Head, bool) {}

func (s sink) WriteData(x *exchange.Exchange, b []byte, _ bool) {
	if x.Up != nil {
		x.Up.Consumed(x, len(b))
	}
}

func (sink) WriteTrailers(*exchange.Exchange, []exchange.Field) {}

func (sink) Reset(*exchange.Exchange, exchange.Reason) {}

func (sink) Consumed(*exchange.Exchange, int) {}

// mirror sends copies of a request to those mirrors that are drawn for it, or keeps the request's body for them.
func (r *request) mirror() {
	if r.x.Tunnel { // there is no end of it that could be waited for
		return
	}
	to := &r.copies.to
	for _, list := range [...][]routing.MirrorTo{r.way.rule.Mirrors, r.way.to.Mirrors} {
		for i := range list {
			if m := &list[i]; m.Cluster != nil && m.Draws(rand.Uint32()) {
				*to = append(*to, m)
			}
		}
	}
	if len(*to) > 0 && r.ended() {
		r.copies.send(r, nil)
	}
}
