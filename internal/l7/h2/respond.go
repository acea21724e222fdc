package h2

import (
	"strconv"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// Codes of gRPC (google.rpc.Code).
const (
	grpcExhausted   = 8
	grpcUnavailable = 14
)

func (s *Server) stream(x *exchange.Exchange) *stream {
	st, _ := x.DownState.(*stream)
	if st == nil || st.x != x || st.gone || s.dead {
		return nil
	}
	return st
}

// Bound implements exchange.Downstream.
func (s *Server) Bound(x *exchange.Exchange) {
	st := s.stream(x)
	if st == nil {
		return
	}
	b, end, f := st.held, st.heldEnd, st.heldTrailers
	s.account.Add(-len(b))
	st.held, st.heldEnd, st.heldTrailers = nil, false, nil
	switch {
	case len(f) > 0:
		if len(b) > 0 {
			x.RequestData(b, false)
		}
		if x.Up != nil {
			x.RequestTrailers(f)
		}
	case len(b) > 0 || end:
		x.RequestData(b, end)
	}
}

// WriteHead implements exchange.Side.
func (s *Server) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	st := s.stream(x)
	if st == nil || st.responded {
		return
	}
	if s.crowded(h.Fields) {
		s.giveUp(st)
		return
	}
	if h.Status < 200 && h.Status != 101 {
		if st.interim++; st.interim > s.lim.Interim {
			s.abandon(st, codeCalm)
			x.RequestReset(exchange.Reason{Code: exchange.CodeLimit, Detail: "too many interim responses"})
			s.drained()
			return
		}
		s.writeResponse(st.id, h, false)
		return
	}
	if !s.private && st.extended && h.Status/100 == 2 {
		// Over HTTP/2 any 2xx accepts; one from an HTTP/1.1 application that did not switch must not.
		s.Fail(x, 502, grpcUnavailable, "upgrade", "the application did not switch protocols")
		x.RequestReset(exchange.Reason{Code: exchange.CodeCancel, Detail: "upgrade not taken"})
		return
	}
	st.responded, st.answered = true, end
	head := *h
	if h.Status == 101 || st.tunnel && !st.extended && h.Status/100 == 2 {
		head.Length = -1
		if !s.private {
			head.Fields = dropAccept(h.Fields)
		}
	}
	s.writeResponse(st.id, &head, end)
	if end {
		st.localEnd = true
		s.endLocal(st)
	}
}

// crowded tells whether a peer that does not read has so much waiting for it that not even a head is put behind.
func (s *Server) crowded(f []exchange.Field) bool {
	return s.budget.IsShort() && s.t.Pending() > 0 && s.t.Pending()+exchange.Size(f) > s.budget.HighWater() && (!s.t.Flows() || s.budget.Critical())
}

// WriteData implements exchange.Side.
func (s *Server) WriteData(x *exchange.Exchange, b []byte, end bool) {
	if st := s.stream(x); st != nil {
		st.answered = st.answered || end
		s.send(st, b, end)
		return
	}
	if x.Up != nil {
		x.Up.Consumed(x, len(b))
	}
}

// WriteTrailers implements exchange.Side.
func (s *Server) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	st := s.stream(x)
	switch {
	case st == nil:
	case s.crowded(f):
		s.giveUp(st)
	default:
		st.answered = true
		s.sendTrailers(st, f)
	}
}

// Reset implements exchange.Side.
func (s *Server) Reset(x *exchange.Exchange, why exchange.Reason) {
	st := s.stream(x)
	switch {
	case st == nil:
	case st.answered && why == exchange.Reason{}:
		s.unwant(st)
	default:
		s.abandon(st, resetCode(why))
		s.drained()
	}
}

// unwant drops the rest of a request that has its whole response, and says so behind the response.
func (s *Server) unwant(st *stream) {
	s.drop(st)
	st.unwanted = true
	if st.localEnd && !st.gone {
		s.endLocal(st)
	}
}

// drop settles what has come of a request that nobody wants any more.
func (s *Server) drop(st *stream) {
	s.account.Add(-len(st.held))
	st.unpaid, st.held = 0, nil
	s.repay(st, st.owing)
}

// Consumed implements exchange.Side.
func (s *Server) Consumed(x *exchange.Exchange, n int) {
	st, _ := x.DownState.(*stream)
	if st != nil && st.x == x && !s.dead {
		s.consumed(st, n)
	}
}

// Fail implements exchange.Downstream.
func (s *Server) Fail(x *exchange.Exchange, status int, grpc uint32, reason, text string) {
	st := s.stream(x)
	if st == nil || st.responded {
		return
	}
	h := &exchange.Head{Status: status}
	if st.grpc {
		h.Status = 200
		h.Fields = []exchange.Field{
			{Name: "content-type", Value: "application/grpc"},
			{Name: "grpc-status", Value: strconv.FormatUint(uint64(grpc), 10)},
			{Name: "grpc-message", Value: percent(text)},
		}
		text = ""
	} else {
		text += "\n"
		h.Fields = []exchange.Field{{Name: "content-type", Value: "text/plain; charset=utf-8"}}
	}
	h.Fields = append(h.Fields, exchange.Field{Name: "x-fairlead-error", Value: reason})
	s.Answer(x, h, text)
}

// Answer implements exchange.Downstream.
func (s *Server) Answer(x *exchange.Exchange, h *exchange.Head, text string) {
	st := s.stream(x)
	if st == nil || st.responded {
		return
	}
	st.responded, st.answered = true, true
	head := *h
	head.Version, head.Length = exchange.HTTP2, int64(len(text))
	if h.Status == 204 || st.grpc {
		head.Length = -1
	}
	s.drop(st)
	st.unwanted = !st.remoteEnd
	bare := text == "" || x.Head
	s.writeResponse(st.id, &head, bare)
	if bare {
		st.localEnd = true
		s.endLocal(st)
		return
	}
	s.send(st, []byte(text), true)
}

// percent encodes a gRPC status message.
func percent(s string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c < 0x7f && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}
