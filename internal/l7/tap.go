package l7

import (
	"slices"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// upTap stands between the exchange and the codec that sends the request on: it counts, and keeps the body as long
// as it is short, so that the request can be sent again.
type upTap struct {
	r        *request
	end      bool // the request has ended, with head, body or trailers
	kept     []byte
	trailers []exchange.Field
	lost     bool // the body was too long to keep
	bytes    int64
}

// whole tells whether everything that was passed on is still here.
func (t *upTap) whole() bool { return !t.lost }

// answered is called when a response has begun: the request will not be sent again.
func (t *upTap) answered() { t.lose() }

// lose keeps nothing any more.
func (t *upTap) lose() {
	t.lost = true
	if cap(t.kept) > keptBody {
		t.r.s.w.bodies.Give(t.kept)
		t.kept = nil
	}
	t.kept, t.trailers = t.kept[:0], nil
	if t.r.kept.Held() > 0 {
		t.r.keep(0)
	}
}

// ended tells whether the head is all that there is to send now, and ever.
func (t *upTap) ended() bool { return t.end && t.bytes == 0 && len(t.trailers) == 0 }

// replay passes on what was passed on before. Its credit was given then, as far as it was given.
func (t *upTap) replay(x *exchange.Exchange) {
	if t.bytes == 0 && len(t.trailers) == 0 {
		return
	}
	t.r.down.again = t.r.down.given
	up := t.r.up.client
	last := t.end && len(t.trailers) == 0
	if len(t.kept) > 0 {
		up.WriteData(x, t.kept, last)
	}
	if len(t.trailers) > 0 {
		up.WriteTrailers(x, t.trailers)
	}
}

func (t *upTap) WriteData(x *exchange.Exchange, b []byte, end bool) {
	t.bytes += int64(len(b))
	t.r.rec.BytesIn = t.bytes
	t.end = t.end || end
	r := t.r
	r.stir()
	if len(r.copies.to) > 0 {
		r.copies.take(r, b, nil, end)
	}
	if !t.lost {
		if len(t.kept)+len(b) > r.s.w.e.lim.Replay || x.Tunnel || x.Responded() || r.s.f.budget().Tight() {
			t.lose()
		} else {
			t.kept = r.s.w.bodies.Append(t.kept, b)
			r.keep(len(t.kept))
		}
	}
	t.r.up.WriteData(x, b, end)
}

func (t *upTap) WriteTrailers(x *exchange.Exchange, f []exchange.Field) {
	t.end = true
	if len(t.r.copies.to) > 0 {
		t.r.copies.take(t.r, nil, slices.Clone(f), true)
	}
	t.trailers = append(t.trailers[:0], f...)
	t.r.keep(len(t.kept))
	t.r.up.WriteTrailers(x, f)
}

func (t *upTap) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	t.r.up.WriteHead(x, h, end)
}

func (t *upTap) Reset(x *exchange.Exchange, why exchange.Reason) {
	if t.r.up != nil {
		t.r.up.Reset(x, why)
	}
}

func (t *upTap) Consumed(x *exchange.Exchange, n int) {
	if t.r.up != nil {
		t.r.up.Consumed(x, n)
	}
}

// downTap stands between the exchange and the codec that read the request: it counts, and sees to it that no byte's
// credit is given twice.
type downTap struct {
	exchange.Downstream
	r     *request
	given int // credit that the codec has had
	again int // of that, what comes a second time in this attempt

	head exchange.Head // of a response that is edited
}

func (t *downTap) WriteHead(x *exchange.Exchange, h *exchange.Head, end bool) {
	t.r.stir()
	t.Downstream.WriteHead(x, t.r.editResponse(h), end)
}

func (t *downTap) WriteData(x *exchange.Exchange, b []byte, end bool) {
	t.r.rec.BytesOut += int64(len(b))
	t.r.stir()
	t.Downstream.WriteData(x, b, end)
}

// Fail is the codec's when it holds too much of a body that has no upstream yet; else the request has recorded why.
func (t *downTap) Fail(x *exchange.Exchange, status int, grpc uint32, reason, text string) {
	if rec := &t.r.rec; rec.Status == 0 {
		rec.Cause, rec.Status, rec.GRPCStatus = CauseLimit, status, grpc
	}
	t.Downstream.Fail(x, status, grpc, reason, text)
}

func (t *downTap) Consumed(x *exchange.Exchange, n int) {
	k := min(n, t.again)
	t.again -= k
	t.given += n - k
	if n > k {
		t.Downstream.Consumed(x, n-k)
	}
}
