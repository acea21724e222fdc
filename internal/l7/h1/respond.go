package h1

import (
	"fairlead.io/fairlead/internal/l7/exchange"
)

// WriteHead implements exchange.Side.
func (s *Server) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	if x != s.x || s.answered || s.started {
		return
	}
	if overdrawn(s.t, exchange.Size(h.Fields), s.cfg.Budget) {
		s.giveUp(exchange.Reason{Code: exchange.CodeLimit, Detail: "buffer limit"})
		return
	}
	if h.Status < 200 && h.Status != 101 {
		s.writeInterim(h)
		return
	}
	s.started = true
	b := appendStatus(s.buf[:0], s.version, h.Status)
	accepted := h.Status == 101 || s.state == atAsk && s.asked == "" && h.Status/100 == 2
	length := h.Length
	switch {
	case accepted:
		length = -1
		s.out.kind = untilClose
	case s.state == atAsk:
		s.declined()
	}
	if !accepted {
		length = s.frame(x, h, end)
	}
	b = appendFields(b, h.Fields, length, false)
	switch {
	case h.Status == 101:
		b = append(appendField(b, "Connection", "Upgrade"), "Upgrade: "...)
		b = append(append(b, s.upgrade(h)...), "\r\n"...)
		b = appendWebSocketAccept(b, s.key, h)
	case accepted:
	default:
		b = s.appendConnection(b, h)
	}
	b = append(b, crlf...)
	s.t.Write(b)
	s.buf = room(b)
	if accepted {
		s.openTunnel(end)
		return
	}
	if end {
		s.finish()
	}
}

func (s *Server) writeInterim(h *exchange.Head) {
	if s.version < exchange.HTTP11 {
		return
	}
	if s.interim++; s.interim > s.lim.Interim {
		x := s.forget()
		s.state = atEnd
		x.RequestReset(exchange.Reason{Code: exchange.CodeLimit, Detail: "too many interim responses"})
		s.t.Abort()
		return
	}
	b := appendStatus(s.buf[:0], s.version, h.Status)
	b = append(appendFields(b, h.Fields, -1, false), crlf...)
	s.t.Write(b)
	s.buf = room(b)
}

// frame chooses the body's framing and returns the length to announce, or -1.
func (s *Server) frame(x *exchange.Exchange, h *exchange.Head, end bool) int64 {
	s.out = out{}
	switch {
	case h.Status == 204 || h.Status < 200:
		return -1
	case x.Head || h.Status == 304:
		return h.Length
	case end: // whatever it declared: there is no body
		return 0
	case h.Length >= 0 && (s.version < exchange.HTTP11 || !announcesTrailers(h)):
		s.out.kind, s.out.left = counted, h.Length
		return h.Length
	case s.version >= exchange.HTTP11:
		s.out.kind = chunks
	default:
		s.out.kind, s.persist = untilClose, false
	}
	return -1
}

// appendConnection writes the fields of this connection.
func (s *Server) appendConnection(b []byte, h *exchange.Head) []byte {
	if s.draining || s.expect && !s.gotBody && !s.reqEnded {
		s.persist = false // an expected body may come or not: nobody can tell where the next request begins
	}
	if s.out.kind == chunks {
		b = appendField(b, "Transfer-Encoding", "chunked")
	}
	switch {
	case h.Status == 426 && h.Protocol != "":
		b = appendField(appendField(b, "Connection", "Upgrade"), "Upgrade", h.Protocol)
		if !s.persist {
			b = appendField(b, "Connection", "close")
		}
	case !s.persist:
		b = appendField(b, "Connection", "close")
	case s.version < exchange.HTTP11:
		b = appendField(b, "Connection", "keep-alive")
	}
	return b
}

// declined goes back to HTTP after a tunnel was refused. What a client sends behind CONNECT may be anything.
func (s *Server) declined() {
	s.state, s.reqEnded = atWait, true
	s.persist = s.persist && s.asked != ""
	if s.x.Up != nil {
		s.x.RequestData(nil, true)
	}
	s.t.Resume()
}

func (s *Server) openTunnel(end bool) {
	s.state = atTunnel
	if end {
		s.WriteData(s.x, nil, true)
	}
	s.t.Resume()
}

// WriteData implements exchange.Side.
func (s *Server) WriteData(x *exchange.Exchange, b []byte, end bool) {
	if x != s.x || s.answered || !s.started {
		return
	}
	if len(b) > 0 && overdrawn(s.t, len(b), s.cfg.Budget) {
		s.giveUp(exchange.Reason{Code: exchange.CodeLimit, Detail: "buffer limit"})
		return
	}
	if err := s.out.write(s.t, b, end); err != nil {
		s.mismatch(err)
		return
	}
	s.pay(x, len(b))
	if end {
		s.finish()
	}
}

// WriteTrailers implements exchange.Side.
func (s *Server) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	if x != s.x || s.answered || !s.started {
		return
	}
	if err := s.out.trailers(s.t, f); err != nil {
		s.mismatch(err)
		return
	}
	s.finish()
}

// mismatch ends a connection whose response does not fit what its head announced.
func (s *Server) mismatch(err error) {
	s.giveUp(exchange.Reason{Code: exchange.CodeProtocol, Detail: err.Error()})
}

// giveUp ends the connection in the middle of a response.
func (s *Server) giveUp(why exchange.Reason) {
	x := s.forget()
	s.state = atEnd
	x.RequestReset(why)
	s.t.Abort()
}

// pay gives the upstream credit for n bytes, at once or when the transport has sent them.
func (s *Server) pay(x *exchange.Exchange, n int) {
	switch {
	case n == 0 || x.Up == nil:
	case s.t.Pending() > s.cfg.Budget.HighWater():
		s.owed += n
	default:
		x.Up.Consumed(x, n)
	}
}

// finish ends the response.
func (s *Server) finish() {
	s.answered = true
	if s.owed > 0 && s.x.Up != nil { // the next request waits for the transport instead
		n := s.owed
		s.x.Up.Consumed(s.x, n)
	}
	s.owed = 0
	switch {
	case s.state == atTunnel && s.reqEnded:
		s.closeTunnel()
	case s.state == atTunnel:
		s.t.CloseWrite()
	case s.reqEnded:
		s.next()
	case !s.persist:
		s.t.CloseWrite() // the client may still send; it knows that there will be no more
	}
}

// Reset implements exchange.Side.
func (s *Server) Reset(x *exchange.Exchange, why exchange.Reason) {
	if x != s.x {
		return
	}
	switch {
	case s.answered && s.state == atBody:
		s.dropRest()
	case s.started:
		s.forget()
		s.state = atEnd
		s.cancelTimer()
		s.t.Abort()
	default:
		status := 502
		switch why.Code {
		case exchange.CodeTimeout:
			status = 504
		case exchange.CodeLimit:
			status = 503
		case exchange.CodeRefused:
			status = 403
		}
		s.Fail(x, status, 0, "upstream", why.Detail)
	}
}

// dropRest reads the rest of an answered request, within a bound, so that the connection can be used again.
func (s *Server) dropRest() {
	s.forget()
	s.unpaid = 0
	if !s.persist { // also if an expected body has not begun to come
		s.end()
		return
	}
	s.state = atDrain
	s.stopTimer = s.t.Loop().After(s.lim.Linger, s.end)
	s.t.Resume()
}

// Consumed implements exchange.Side.
func (s *Server) Consumed(x *exchange.Exchange, n int) {
	if x != s.x {
		return
	}
	s.unpaid = max(s.unpaid-n, 0)
	if s.unpaid <= s.lim.Body/2 && (s.state == atBody || s.state == atTunnel) {
		s.t.Resume()
	}
}

// Bound implements exchange.Downstream.
func (s *Server) Bound(x *exchange.Exchange) {
	if x == s.x && s.state == atBody {
		s.t.Resume()
	}
}

// Fail implements exchange.Downstream.
func (s *Server) Fail(x *exchange.Exchange, status int, _ uint32, reason, text string) {
	s.own(x, func() { s.answer(status, reason, text, x.Head) })
}

// Answer implements exchange.Downstream.
func (s *Server) Answer(x *exchange.Exchange, h *exchange.Head, text string) {
	s.own(x, func() { s.answerWith(h, text, x.Head) })
}

// own writes a response of our own by write, and goes on behind it.
func (s *Server) own(x *exchange.Exchange, write func()) {
	if x != s.x || s.started {
		return
	}
	if s.state == atAsk {
		s.state, s.reqEnded = atWait, true
		s.persist = s.persist && s.asked != ""
	}
	s.started = true
	write()
	s.answered = true
	if s.reqEnded {
		s.next()
		return
	}
	s.dropRest()
}

// answer writes a whole response of our own.
func (s *Server) answer(status int, reason, text string, head bool) {
	s.answerWith(&exchange.Head{Status: status, Fields: []exchange.Field{
		{Name: "X-Fairlead-Error", Value: reason}, {Name: "Content-Type", Value: "text/plain; charset=utf-8"}}}, text+"\n", head)
}

func (s *Server) answerWith(h *exchange.Head, text string, head bool) {
	b := appendStatus(s.buf[:0], s.version, h.Status)
	length := int64(len(text))
	if h.Status == 204 {
		length = -1
	}
	b = appendFields(b, h.Fields, length, false)
	s.out.kind = none
	b = append(s.appendConnection(b, &exchange.Head{Status: h.Status}), crlf...)
	if !head {
		b = append(b, text...)
	}
	s.t.Write(b)
	s.buf = room(b)
}
