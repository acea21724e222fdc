package l7

import "fairlead.io/fairlead/internal/l7/exchange"

const (
	// keptRequests bounds the requests that a loop keeps for those to come.
	keptRequests = 1024
	// What a kept request has room for.
	keptFields = 32
	keptBody   = 4 << 10
)

// requests are a loop's requests that have ended, to be used again: a request and its exchange are one object, so that the steady
// path makes no garbage. It is an exchange.Source.
type requests struct {
	free  []*request
	ended []*request // in this turn
}

// Get implements exchange.Source.
func (q *requests) Get() *exchange.Exchange {
	var r *request
	if n := len(q.free); n > 0 {
		r = q.free[n-1]
		q.free[n-1] = nil
		q.free = q.free[:n-1]
	} else {
		r = &request{}
	}
	r.x.User, r.x.From = r, q
	return &r.x
}

// Put implements exchange.Source.
func (q *requests) Put(x *exchange.Exchange) {
	if r, ok := x.User.(*request); ok && !r.over {
		r.over = true
		q.ended = append(q.ended, r)
	}
}

// turn makes what has ended ready for others. No call into a connection may be under way.
func (q *requests) turn() {
	for i, r := range q.ended {
		q.ended[i] = nil
		r.over = false
		if len(q.free) < keptRequests && !r.x.Held() {
			r.wipe()
			q.free = append(q.free, r)
		}
	}
	q.ended = q.ended[:0]
}

// wipe makes r zero but for its room.
func (r *request) wipe() {
	fields, out, back, kept, tried := room(r.head.Fields), room(r.out.Fields), room(r.down.head.Fields), r.upTap.kept, r.tries.tried
	clear(kept)
	if cap(kept) > keptBody {
		kept = nil
	}
	*r = request{}
	r.head.Fields, r.out.Fields, r.down.head.Fields, r.upTap.kept, r.tries.tried = fields, out, back, kept[:0], tried[:0]
}

// room empties fields, and keeps what may be of use again.
func room(fields []exchange.Field) []exchange.Field {
	clear(fields)
	if cap(fields) > keptFields {
		return nil
	}
	return fields[:0]
}
