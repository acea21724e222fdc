package h2

import (
	"slices"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// ServerConfig is what a server needs to know.
type ServerConfig struct {
	Limits  exchange.Limits
	Private bool
	Shared  *Shared // with the other connections of the loop; may be nil
	Budget  *exchange.Budget
	Ping    time.Duration // of silence before a PING, and to wait for its answer; 0 is never
	// Request is called with each request: x.Down is the server. The callee gives the head to an upstream and
	// calls x.Bind, or calls x.Fail, at once or later. The head is valid during the call only; its strings live on.
	Request func(x *exchange.Exchange, h *exchange.Head, end bool)
	// Exchanges, if set, is where exchanges come from.
	Exchanges exchange.Source
	// OnClosed, if set, is called once, when the connection has ended.
	OnClosed func(error)
}

// Server is the downstream end: it reads requests, many at a time, and writes their responses.
type Server struct {
	conn
	cfg  ServerConfig
	over bool // the last GOAWAY is out
}

// NewServer makes a server for a connection that a client has opened, and sends its settings.
func NewServer(t exchange.Transport, cfg ServerConfig) *Server {
	s := &Server{cfg: cfg}
	s.init(t, cfg.Limits, (*serverRole)(s), cfg.Private, true, cfg.Shared, cfg.Budget)
	s.start()
	s.keepAlive(cfg.Ping)
	return s
}

// Upgraded begins with the request that an HTTP/1.1 client has sent to ask for HTTP/2, and the settings that came with it (RFC
// 7540 section 3.2.1): it is stream 1, and has ended. The client's preface follows.
func (s *Server) Upgraded(h *exchange.Head, settings []byte) {
	if err := s.settings(settings); err != nil {
		s.fatal(err)
		return
	}
	s.lastPeer = 1
	(*serverRole)(s).begin(1, h, true)
}

// Drain takes no more requests, in two steps (RFC 9113 section 6.8): a GOAWAY that still allows all, and after one
// round trip, or a second, one that names the last request taken. The connection closes behind the last response.
func (s *Server) Drain() {
	if s.dead || s.ping.onDrain != nil || s.over {
		return
	}
	s.writeGoAway(maxWindow, codeNone)
	s.writeFrame(framePing, 0, 0, pingDrain[:])
	s.ping.onDrain = s.lastCall
	s.drainStop = s.t.Loop().After(time.Second, s.lastCall)
}

func (s *Server) lastCall() {
	if s.dead || s.over {
		return
	}
	s.ping.onDrain = nil
	s.over, s.goingAway, s.named = true, true, s.lastPeer
	s.writeGoAway(s.named, codeNone)
	s.drained()
}

// Closed implements exchange.Protocol.
func (s *Server) Closed(err error) {
	s.down(exchange.Reason{Code: exchange.CodeCancel, Detail: "client closed"})
	if s.cfg.OnClosed != nil {
		s.cfg.OnClosed(err)
	}
}

// serverRole keeps the role's methods out of Server's own.
type serverRole Server

func (s *serverRole) headers(id uint32, fields []exchange.Field, how block) error {
	st := s.streams[id]
	if st != nil {
		return s.trailers(st, fields, how)
	}
	if id <= s.lastPeer {
		switch {
		case s.ended.has(id):
			return fatal(codeClosed, "HEADERS on a closed stream")
		case s.reset.has(id) || s.reset.full(): // they were too many to know all of them
			return s.crossed()
		}
		return fatal(codeProtocol, "stream number does not grow")
	}
	s.lastPeer = id
	if s.over { // it has crossed our GOAWAY, as what follows of it will (RFC 9113 section 6.8)
		s.reset.add(id)
		s.flood.excuse(behindReset)
		return s.flood.control(s.t.Loop().Now(), &s.lim)
	}
	if len(s.streams) >= int(s.lim.Streams) {
		return s.refuse(id, codeRefused)
	}
	if how.large {
		return s.tooLarge(id, how.end)
	}
	h, err := s.reading.request(fields, s.private)
	if err != nil || how.self || how.end && h.Length > 0 {
		return s.refuse(id, codeProtocol)
	}
	if len(h.Fields) > s.lim.HeadFields {
		return s.tooLarge(id, how.end)
	}
	s.begin(id, h, how.end)
	return nil
}

func (s *serverRole) begin(id uint32, h *exchange.Head, end bool) {
	x := exchange.Begin(s.cfg.Exchanges, (*Server)(s))
	x.Head = h.Method == "HEAD"
	st := s.newStream(id, x)
	x.DownState = st
	st.length, st.remoteEnd, st.extended = h.Length, end, h.Protocol != ""
	st.tunnel = st.extended || h.Method == "CONNECT"
	x.Tunnel = st.tunnel
	if st.tunnel {
		st.length = -1
	}
	ct, _ := exchange.Get(h.Fields, "content-type")
	st.grpc = strings.HasPrefix(ct, "application/grpc")
	if end {
		x.RequestEnded()
	}
	s.cfg.Request(x, h, end)
}

// refuse resets a stream that never was an exchange.
func (s *serverRole) refuse(id uint32, why code) error {
	s.reset.add(id)
	s.flood.excuse(behindReset)
	s.writeReset(id, why)
	return s.resetMany()
}

func (s *serverRole) tooLarge(id uint32, end bool) error {
	s.reset.add(id)
	s.flood.excuse(behindReset)
	s.writeResponse(id, &exchange.Head{Status: 431, Version: exchange.HTTP2, Length: 0}, true)
	if !end {
		s.writeReset(id, codeNone)
	}
	return s.resetMany()
}

func (s *serverRole) trailers(st *stream, fields []exchange.Field, how block) error {
	if st.remoteEnd {
		return s.streamError(st, codeClosed, "HEADERS behind END_STREAM")
	}
	f, err := s.reading.trailers(fields, s.private)
	if err != nil || !how.end || how.large || how.self || st.tunnel || st.length >= 0 && st.got != st.length {
		return s.streamError(st, codeProtocol, "malformed trailers")
	}
	st.remoteEnd = true
	switch {
	case st.unwanted:
	case st.x.Up == nil || st.held != nil:
		st.heldEnd, st.heldTrailers = true, slices.Clone(f)
		s.keepAside(st, f)
	case len(f) == 0:
		st.x.RequestData(nil, true)
	default:
		st.x.RequestTrailers(f)
	}
	s.endRemote(st)
	return nil
}

func (s *serverRole) data(st *stream, b []byte, end bool) {
	if st.x.Up == nil || st.held != nil {
		s.hold(st, b, end)
		return
	}
	st.x.RequestData(b, end)
}

// hold keeps what a request that has no upstream yet brings of its body.
func (s *serverRole) hold(st *stream, b []byte, end bool) {
	st.held, st.heldEnd = append(st.held, b...), end
	s.account.Add(len(b))
	if len(st.held) > exchange.Share && s.budget.IsShort() {
		s.budget.Refuse()
		st.x.Fail(503, grpcExhausted, "buffer_limit", "too much is waiting for this pod")
	}
}

func (s *serverRole) lost(st *stream, why exchange.Reason) { st.x.RequestReset(why) }

func (s *serverRole) payee(st *stream) exchange.Side { return st.x.Up }

func (s *serverRole) freed() { s.drained() }

func (s *serverRole) goAway(uint32) {}

func (s *serverRole) lastSaid() bool { return s.over }
