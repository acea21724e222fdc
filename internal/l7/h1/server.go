package h1

import (
	"encoding/base64"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// ServerConfig is what a server needs to know.
type ServerConfig struct {
	Limits exchange.Limits
	// Request is called with each request: x.Down is the server. The callee gives the head to an upstream and
	// calls x.Bind, or calls x.Fail, at once or later. The head is valid during the call only; its strings live on.
	Request func(x *exchange.Exchange, h *exchange.Head, end bool)
	Memo    *Memo // shared with the other connections of the loop; may be nil
	Budget  *exchange.Budget
	// Exchanges, if set, is where exchanges come from.
	Exchanges exchange.Source
	// Framed, if set, takes the connection over behind a request that asks for HTTP/2 (RFC 7540 section 3.2), which has been
	// answered with 101: settings is the payload of SETTINGS that came with it. The server does nothing any more.
	Framed func(h *exchange.Head, settings []byte)
	// Refused, if set, is told of each request that could not be parsed.
	Refused func(status int, detail string)
	// OnClosed, if set, is called once, when the connection has ended.
	OnClosed func(error)
}

// state is where a server is in its input.
type state uint8

const (
	atHead   state = iota // before or in a head
	atBody                // in a body that is passed on
	atWait                // behind the request, until its response is out
	atAsk                 // behind a request for a tunnel, until it is answered
	atTunnel              // bytes, both ways
	atDrain               // in a body that nobody wants any more
	atEnd                 // nothing more is read
	atOther               // another codec has the connection
)

// Server is the downstream end: it reads requests and writes their responses, one at a time.
type Server struct {
	t    exchange.Transport
	cfg  ServerConfig
	lim  exchange.Limits
	head request // that is being read

	state   state
	scan    scanner
	in      body
	out     out
	x       *exchange.Exchange
	version exchange.Version
	asked   string // the upgrade that was asked for
	key     string // and a WebSocket's key

	persist, draining, eof      bool
	started, answered, reqEnded bool // of the response; of the request
	expect, gotBody             bool
	interim                     int
	unpaid, drained             int // delivered without credit; dropped
	owed                        int // response bytes whose credit waits for the transport
	stopTimer, stopFarewell     func()
	buf                         []byte
}

// NewServer makes a server for a connection that a client has opened.
func NewServer(t exchange.Transport, cfg ServerConfig) *Server {
	t.Charge(cfg.Budget)
	return &Server{t: t, cfg: cfg, lim: cfg.Limits.WithDefaults()}
}

// Idle tells whether no request is in progress.
func (s *Server) Idle() bool { return s.x == nil && s.state == atHead }

// Drain lets the request in progress end, and closes the connection behind it. A client that is idle, or has only just
// connected, may be sending a request at this moment, and would see it lost: it has Limits.Farewell for one more, whose
// answer says that the connection closes.
func (s *Server) Drain() {
	if s.draining {
		return
	}
	s.draining = true
	if s.Idle() {
		s.stopFarewell = s.t.Loop().After(s.lim.Farewell, s.farewell)
	}
}

func (s *Server) farewell() {
	s.stopFarewell = nil
	if s.Idle() && s.stopTimer == nil { // no head has begun
		s.end()
	}
}

// Feed implements exchange.Protocol.
func (s *Server) Feed(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		var k int
		switch s.state {
		case atHead:
			k = s.readHead(b[n:])
		case atBody, atTunnel:
			k = s.readBody(b[n:])
		case atDrain:
			k = s.drain(b[n:])
		case atWait, atAsk:
			s.t.Pause()
			return n, nil
		case atEnd:
			return len(b), nil
		}
		if k == 0 {
			break
		}
		n += k
		if s.state == atOther {
			return n, nil
		}
	}
	if s.state == atEnd {
		return len(b), nil
	}
	return n, nil
}

func (s *Server) readHead(b []byte) int {
	if s.t.Pending() > s.cfg.Budget.HighWater() { // a client that asks and does not read
		s.t.Pause()
		return 0
	}
	if s.scan.at == 0 && b[0] == '\r' { // an empty line before a request is forgiven (RFC 9112 section 2.2)
		if len(b) == 1 {
			return 0
		}
		if b[1] == '\n' {
			return 2
		}
	}
	end, err := s.scan.scan(b, &s.lim)
	if err != nil {
		s.refuse(err)
		return 0
	}
	if end == 0 {
		if len(b) > headShare && s.cfg.Budget.IsShort() {
			s.cfg.Budget.Refuse()
			s.refuse(errFull)
			return 0
		}
		s.startTimer()
		return 0
	}
	s.cancelTimer()
	if err := s.head.parse(b[:end], s.cfg.Memo); err != nil {
		s.refuse(err)
		return 0
	}
	if !s.switched(&s.head) {
		s.begin(&s.head)
	}
	s.head.forget()
	return end
}

// switched hands the connection over to HTTP/2, if that is asked for in good order and somebody takes it.
func (s *Server) switched(r *request) bool {
	if !r.framed || s.cfg.Framed == nil || s.draining {
		return false
	}
	settings, err := base64.RawURLEncoding.DecodeString(r.settings)
	if err != nil || len(settings)%6 != 0 {
		return false
	}
	s.cancelTimer()
	s.state = atOther
	s.t.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"))
	r.head.Version = exchange.HTTP2
	s.cfg.Framed(&r.head, settings)
	return true
}

// begin starts an exchange.
func (s *Server) begin(r *request) {
	x := exchange.Begin(s.cfg.Exchanges, s)
	x.Head, x.Tunnel = r.head.Method == "HEAD", r.tunnel
	s.x, s.in, s.version, s.asked = x, body{kind: r.body, left: r.head.Length}, r.head.Version, r.head.Protocol
	s.persist, s.expect, s.gotBody = r.persist, r.expect, false
	s.started, s.answered, s.reqEnded = false, false, false
	s.interim, s.unpaid, s.drained = 0, 0, 0
	end := false
	switch {
	case r.tunnel:
		s.state = atAsk
		s.key, _ = exchange.Get(r.head.Fields, "sec-websocket-key")
	case r.body == none:
		s.state, s.reqEnded, end = atWait, true, true
		x.RequestEnded()
	default:
		s.state = atBody
	}
	s.cfg.Request(x, &r.head, end)
}

// forget lets go of the exchange, which may still be used in this turn.
func (s *Server) forget() *exchange.Exchange {
	x := s.x
	s.x = nil
	if x != nil {
		x.Drop()
	}
	return x
}

// readBody delivers body or tunnel bytes, as far as there is somebody to take them and credit.
func (s *Server) readBody(b []byte) int {
	if s.x.Up == nil || s.unpaid >= s.lim.Body {
		s.t.Pause()
		return 0
	}
	if s.state == atTunnel {
		s.unpaid += len(b)
		s.x.RequestData(b, false)
		return len(b)
	}
	s.gotBody = true
	data, n, done, err := s.in.next(b, &s.lim)
	if err != nil {
		s.broken(err)
		return 0
	}
	s.unpaid += len(data)
	x := s.x
	switch {
	case done:
		s.reqEnded, s.state = true, atWait
		if len(s.in.trailers) > 0 {
			x.RequestTrailers(s.in.trailers)
		} else {
			x.RequestData(data, true)
		}
		if s.x == x && s.answered {
			s.next()
		}
	case len(data) > 0:
		x.RequestData(data, false)
	}
	return n
}

// drain drops the rest of a request that has been answered.
func (s *Server) drain(b []byte) int {
	_, n, done, err := s.in.next(b, &s.lim)
	s.drained += n
	if err != nil || s.drained > s.lim.Drain {
		s.end()
		return 0
	}
	if done {
		s.reqEnded = true
		s.next()
	}
	return n
}

// refuse answers a request that could not be read.
func (s *Server) refuse(err error) {
	f, ok := err.(*fault)
	if !ok {
		f = &fault{400, err.Error()}
	}
	if s.cfg.Refused != nil {
		s.cfg.Refused(f.status, f.text)
	}
	s.version, s.persist = exchange.HTTP11, false
	reason := "malformed"
	if f == errFull {
		reason = "buffer_limit"
	}
	s.answer(f.status, reason, f.text, false)
	s.end()
}

// broken deals with a request whose body does not parse.
func (s *Server) broken(err error) {
	x, started := s.forget(), s.started
	x.RequestReset(exchange.Reason{Code: exchange.CodeProtocol, Detail: "malformed request body"})
	if started {
		s.t.Abort()
		s.state = atEnd
		return
	}
	s.refuse(err)
}

// next goes on to the next request, after request and response have ended.
func (s *Server) next() {
	s.forget()
	if !s.persist || s.draining || s.eof {
		s.end()
		return
	}
	s.cancelTimer()
	s.state, s.scan = atHead, scanner{}
	s.t.Resume()
}

// end sends what is pending, half-closes, and drops what still comes for a while, so that the client can read the
// last response before it sees a reset.
func (s *Server) end() {
	if s.state == atEnd {
		return
	}
	s.cancelTimer()
	s.state = atEnd
	s.forget()
	if s.eof {
		s.t.Close()
		return
	}
	s.t.CloseWrite()
	s.t.Resume()
	s.stopTimer = s.t.Loop().After(s.lim.Linger, s.t.Close)
}

func (s *Server) startTimer() {
	if s.stopTimer == nil {
		s.stopTimer = s.t.Loop().After(s.lim.HeadTimeout, s.slow)
	}
}

func (s *Server) slow() {
	s.stopTimer = nil
	if s.state == atHead && s.x == nil {
		s.refuse(errSlow)
	}
}

func (s *Server) cancelTimer() {
	if s.stopFarewell != nil {
		s.stopFarewell()
		s.stopFarewell = nil
	}
	if s.stopTimer != nil {
		s.stopTimer()
		s.stopTimer = nil
	}
}

// EOF implements exchange.Protocol.
func (s *Server) EOF() {
	s.eof = true
	switch s.state {
	case atHead, atDrain:
		s.end()
	case atEnd:
		s.cancelTimer()
		s.t.Close()
	case atBody, atWait, atAsk:
		// A client that half-closes before its response is there has given up: close() looks no different, and
		// the application must learn of that.
		x := s.forget()
		s.state = atEnd
		x.RequestReset(exchange.Reason{Code: exchange.CodeCancel, Detail: "client closed"})
		if s.answered {
			s.t.Close() // the response may still be on its way
		} else {
			s.t.Abort()
		}
	case atTunnel:
		s.endRequest()
	}
}

// endRequest passes the end of a tunnel's first direction on.
func (s *Server) endRequest() {
	if s.reqEnded || s.x.Up == nil {
		return
	}
	s.reqEnded = true
	s.x.RequestData(nil, true)
	if s.answered {
		s.closeTunnel()
	}
}

func (s *Server) closeTunnel() {
	s.forget()
	s.state = atEnd
	s.t.Close()
}

// Writable implements exchange.Protocol.
func (s *Server) Writable() {
	if s.owed > 0 && s.x != nil && s.x.Up != nil {
		n := s.owed
		s.owed = 0
		s.x.Up.Consumed(s.x, n)
	}
	if s.state == atHead {
		s.t.Resume()
	}
}

// Closed implements exchange.Protocol.
func (s *Server) Closed(err error) {
	s.cancelTimer()
	x := s.forget()
	s.state = atEnd
	if x != nil {
		x.RequestReset(exchange.Reason{Code: exchange.CodeCancel, Detail: "client closed"})
	}
	if s.cfg.OnClosed != nil {
		s.cfg.OnClosed(err)
	}
}

// upgrade names the protocol that a 101 announces.
func (s *Server) upgrade(h *exchange.Head) string {
	if h.Protocol != "" {
		return h.Protocol
	}
	first, _, _ := strings.Cut(s.asked, ",")
	return first
}
