package l7

import (
	"crypto/tls"
	"strconv"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h1"
	"fairlead.io/fairlead/internal/l7/h2"
	"fairlead.io/fairlead/internal/l7/loop"
	"fairlead.io/fairlead/internal/mesh"
)

// route is where the requests of a connection go: to a destination, or to the own app.
type route struct {
	dst     *Destination
	in      *arrival
	private bool   // the client is a proxy of the mesh
	refused error  // why no request gets anywhere; nil if they do
	service string // the destination's name for the receiving proxy
}

// httpSession is one downstream HTTP connection on its loop.
type httpSession struct {
	exchange.Protocol // the codec
	server            interface{ Drain() }
	f                 *flow
	w                 *worker
	t                 exchange.Transport
	route             *route
	state             *tls.ConnectionState
	last              time.Time // of the last request's end
	active            int
	newest            *request // of those under way
	draining, aborted bool
	ended             bool

	said    string // the service that the last request named, and what it meant
	service mesh.Name
	tag     any // the Recorder's
	rate    rated
}

// serveHTTP hands the connection over to a loop.
func (f *flow) serveHTTP(k Kind, r *route) {
	w := f.e.worker()
	s := &httpSession{f: f, w: w, route: r, state: r.in.peerState()}
	if r.dst != nil && r.dst.Service.Name != "" {
		r.service = r.dst.Service.String() + ":" + strconv.Itoa(int(r.dst.Port.Number))
	}
	f.rec.Kind = k
	if r.in != nil {
		f.rec.Security = r.in.security()
	}
	f.passed = true
	f.p.enter(s)
	if err := f.stands(); err != nil && r.refused == nil {
		s.left()
		f.refuse(CauseRefused, err)
		return
	}
	start := func(t exchange.Transport) exchange.Protocol {
		loop.Own(t, f.p)
		return s.start(t, k)
	}
	tune(f.c)
	var err error
	if sec, ok := f.down.(*loop.Secure); ok {
		err = w.l.AttachTLS(sec, start)
	} else {
		first := f.first
		f.first = nil // else it would live as long as the connection, which is mostly idle
		err = w.l.Attach(f.c, first, start)
	}
	if err != nil {
		s.left()
		f.refuse(CauseInternal, err)
	}
}

// start makes the codec. It runs on the loop.
func (s *httpSession) start(t exchange.Transport, k Kind) exchange.Protocol {
	s.t, s.last = t, s.w.l.Now()
	s.w.sessions[s] = struct{}{}
	if k == KindHTTP2 {
		s.framed()
	} else {
		cfg := h1.ServerConfig{Limits: s.w.e.lim.HTTP, Budget: s.f.budget(), Memo: &s.w.lines, Exchanges: &s.w.requests, Request: s.request}
		if d := s.route.dst; d != nil && d.Port.Protocol == mesh.HTTP2 { // elsewhere the server may know HTTP/1.1 only
			cfg.Framed = s.upgraded
		}
		srv := h1.NewServer(t, cfg)
		s.Protocol, s.server = srv, srv
	}
	s.f.e.rec.ConnOpened(&s.f.rec)
	if s.aborted {
		t.Abort()
	} else if s.draining {
		s.server.Drain()
	}
	return s
}

// framed makes the codec of HTTP/2.
func (s *httpSession) framed() *h2.Server {
	cfg := h2.ServerConfig{Limits: s.w.e.lim.HTTP, Private: s.route.private, Budget: s.f.budget(), Shared: &s.w.shared,
		Exchanges: &s.w.requests, Request: s.request}
	if cfg.Private {
		cfg.Ping = meshPing // a node that has lost its power sends no FIN
	}
	srv := h2.NewServer(s.t, cfg)
	s.Protocol, s.server = srv, srv
	return srv
}

// upgraded goes on in HTTP/2 with what a client of HTTP/1.1 has asked.
func (s *httpSession) upgraded(h *exchange.Head, settings []byte) {
	srv := s.framed()
	srv.Upgraded(h, settings)
	s.t.Pause() // what has come behind the request is fed to the new codec
	s.t.Resume()
}

func (s *httpSession) arrived() *Arrival {
	if s.route.refused != nil {
		return nil // there is nothing to ask about again
	}
	return s.f.admitted.Load()
}

func (s *httpSession) destination() *Destination { return s.route.dst }

// drain lets the requests under way end: GOAWAY, or "Connection: close".
func (s *httpSession) drain() {
	s.w.l.Do(func() {
		s.draining = true
		if s.server != nil && !s.ended {
			s.server.Drain()
		}
	})
}

func (s *httpSession) abort() {
	s.w.l.Do(func() {
		s.aborted = true
		if s.t != nil && !s.ended {
			s.t.Abort()
		}
	})
}

// Closed implements exchange.Protocol.
func (s *httpSession) Closed(err error) {
	s.ended = true
	delete(s.w.sessions, s)
	s.Protocol.Closed(err)
	rec := &s.f.rec
	rec.Duration = time.Since(rec.Began)
	rec.Cause = causeOf(err)
	if err != nil && s.f.p.ctx.Err() != nil {
		rec.Cause = CauseDrain
	}
	if s.route.refused != nil {
		rec.Cause = CauseRefused
	}
	s.f.e.rec.ConnClosed(rec)
	s.left()
}

func (s *httpSession) left() {
	s.f.p.conns[s.f.dir].Add(-1)
	s.f.p.leave(s)
}

// request takes a request that the codec has read.
func (s *httpSession) request(x *exchange.Exchange, h *exchange.Head, end bool) {
	f := s.f
	if f.p.requests[f.dir].Add(1) > f.e.lim.Requests {
		f.p.requests[f.dir].Add(-1)
		f.e.rec.Event(f.spec, f.dir, EventRequestLimit)
		x.Fail(503, grpcExhausted, "request_limit", "too many requests in flight")
		return
	}
	if b := s.f.budget(); b.Full() {
		f.p.requests[f.dir].Add(-1)
		b.Refuse()
		x.Fail(503, grpcExhausted, "buffer_limit", "too much is waiting for this pod")
		return
	}
	r := x.User.(*request)
	r.start(s, h, end)
	s.active++
	r.join()
	if s.route.refused != nil {
		s.server.Drain() // not before: a client that is told at once to go elsewhere comes back without having asked
		s.route.in.refused()
		r.fail(CauseRefused, 403, grpcDenied, refusal(s.route.refused))
		return
	}
	if r.admit() && !s.limited(r, h.Service) {
		r.begin()
	}
}

// serviceOf reads what a mesh peer says about the destination. It is mostly what it said the last time.
func (s *httpSession) serviceOf(said string) mesh.Name {
	if said != s.said {
		s.said = said
		s.service, _, _ = parseService(said)
	}
	return s.service
}
