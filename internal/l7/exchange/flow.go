package exchange

// Observer sees an exchange pass. Methods are called on the exchange's loop, in the order of events.
type Observer interface {
	ResponseHead(x *Exchange, h *Head)
	ResponseTrailers(x *Exchange, f []Field)
	// Done is called once, when both directions have ended or either side gave up.
	Done(x *Exchange, why Reason)
}

// Exchange is one request and its response on their way through the proxy. The codec that read the request is Down;
// the one that sends it on is Up. Each codec calls the methods below with what it reads, and the exchange hands it to
// the other side. The engine sets Up by Bind, now or later: until then the request's body waits in its codec.
type Exchange struct {
	Down, Up Side
	Observer Observer
	// DownState and UpState belong to the two codecs, User to the engine.
	DownState, UpState, User any
	// From takes the exchange back when nobody holds it any more. It may be nil.
	From Source

	Head   bool // the request is HEAD: the response has no body
	GaveUp bool // the downstream has: what became of the exchange says nothing about the upstream
	Tunnel bool // a CONNECT or upgrade: bytes in both directions once it is accepted

	reqEnd, respHead, respEnd, done bool
	holds                           int
}

// Source makes exchanges and takes them back. What was taken back may be used until the loop's turn has ended.
type Source interface {
	Get() *Exchange
	Put(x *Exchange)
}

// Begin makes an exchange for a request that down has read, and holds it for down.
func Begin(from Source, down Side) *Exchange {
	var x *Exchange
	if from != nil {
		x = from.Get()
	} else {
		x = &Exchange{}
	}
	x.Down = down
	x.Hold()
	return x
}

// Hold says that x is kept beyond the turn, by one codec or by the engine. Drop says so no more.
func (x *Exchange) Hold() { x.holds++ }

// Held tells whether anybody holds x.
func (x *Exchange) Held() bool { return x.holds > 0 }

// Drop ends a Hold. Nothing may be kept of x behind the turn in which the last one ends.
func (x *Exchange) Drop() {
	if x.holds--; x.holds == 0 && x.From != nil {
		x.From.Put(x)
	}
}

// Downstream is what a server codec offers beyond Side.
type Downstream interface {
	Side
	// Bound says that x.Up is set: the body that waited may flow.
	Bound(x *Exchange)
	// Fail answers in the proxy's own name, if no response has begun, and forgets x. The text is short and
	// constant; gRPC requests over HTTP/2 get grpc (a google.rpc.Code) instead of status.
	Fail(x *Exchange, status int, grpc uint32, reason, text string)
	// Answer is Fail with a response that is said in full: h's length is text's.
	Answer(x *Exchange, h *Head, text string)
}

// Bind sets the upstream side, after the request's head has been given to it, and lets the request's body flow.
func (x *Exchange) Bind(up Side) {
	if x.done {
		return
	}
	x.Up = up
	if d, ok := x.Down.(Downstream); ok {
		d.Bound(x)
	}
}

// Fail answers the request in the proxy's own name and ends the exchange; an upstream is reset. After a response
// has begun it resets the downstream instead.
func (x *Exchange) Fail(status int, grpc uint32, reason, text string) {
	if x.done {
		return
	}
	why := Reason{Code: CodeCancel, Detail: reason}
	x.Recall(why)
	if d, ok := x.Down.(Downstream); ok && !x.respHead {
		x.respHead, x.respEnd = true, true
		d.Fail(x, status, grpc, reason, text)
	} else {
		x.Down.Reset(x, why)
	}
	x.end(Reason{Detail: reason})
}

// Answer answers the request in the proxy's own name, with a response that is said in full. No response may have begun.
func (x *Exchange) Answer(h *Head, text string) {
	d, ok := x.Down.(Downstream)
	if x.done || !ok || x.respHead {
		return
	}
	x.Recall(Reason{Code: CodeCancel})
	x.respHead, x.respEnd = true, true
	d.Answer(x, h, text)
	x.end(Reason{})
}

// Recall takes the request back from its upstream, if it has one: it may be bound to another, or answered.
func (x *Exchange) Recall(why Reason) {
	if x.done || x.Up == nil {
		return
	}
	x.Up.Reset(x, why)
	x.Up, x.UpState = nil, nil
}

// Refuse gives the request back, unanswered and unprocessed: a downstream that is a proxy may send it elsewhere.
func (x *Exchange) Refuse(why Reason) {
	if x.done {
		return
	}
	x.Recall(why)
	x.Down.Reset(x, why)
	x.end(why)
}

// RequestData passes request body bytes on. The downstream calls it, and RequestTrailers, only while Up is set.
func (x *Exchange) RequestData(b []byte, end bool) {
	if x.done {
		return
	}
	x.reqEnd = x.reqEnd || end
	x.Up.WriteData(x, b, end)
	x.finish()
}

// RequestTrailers passes the request's trailers on and ends it.
func (x *Exchange) RequestTrailers(f []Field) {
	if x.done {
		return
	}
	x.reqEnd = true
	x.Up.WriteTrailers(x, f)
	x.finish()
}

// RequestEnded notes that the request ended with its head.
func (x *Exchange) RequestEnded() { x.reqEnd = true }

// RequestReset says that the downstream has given up. The upstream, if there is one, is reset.
func (x *Exchange) RequestReset(why Reason) {
	if x.done {
		return
	}
	if x.Up != nil {
		x.Up.Reset(x, why)
	}
	x.GaveUp = true
	x.end(why)
}

// ResponseHead passes a response head on, an interim one too.
func (x *Exchange) ResponseHead(h *Head, end bool) {
	if x.done {
		return
	}
	interim := h.Status < 200 && h.Status != 101
	if d, ok := x.Observer.(Decliner); ok && !interim && d.Decline(x, h, end) {
		x.declined(end)
		return
	}
	if !interim {
		x.respHead = true
	}
	if x.Observer != nil {
		x.Observer.ResponseHead(x, h)
	}
	x.respEnd = x.respEnd || end
	x.Down.WriteHead(x, h, end)
	x.finish()
}

// ResponseData passes response body bytes on.
func (x *Exchange) ResponseData(b []byte, end bool) {
	if x.done {
		return
	}
	x.respEnd = x.respEnd || end
	x.Down.WriteData(x, b, end)
	x.finish()
}

// ResponseTrailers passes the response's trailers on and ends it.
func (x *Exchange) ResponseTrailers(f []Field) {
	if x.done {
		return
	}
	if x.Observer != nil {
		x.Observer.ResponseTrailers(x, f)
	}
	x.respEnd = true
	x.Down.WriteTrailers(x, f)
	x.finish()
}

// Rejecter decides what becomes of an exchange whose upstream failed before a response began: it returns true
// if it has taken the exchange over (sends it again, or answers it itself).
type Rejecter interface {
	Reject(x *Exchange, why Reason) bool
}

// Decliner decides whether a final response is passed on, before its head is: it returns true if the response is to be given
// up, and the observer has taken the exchange over, as a Rejecter does.
type Decliner interface {
	Decline(x *Exchange, h *Head, end bool) bool
}

// declined parts x from the upstream whose response was given up. One that has nothing more to say or to hear needs no reset.
func (x *Exchange) declined(end bool) {
	if end && x.reqEnd {
		x.Up, x.UpState = nil, nil
		return
	}
	x.Recall(Reason{Code: CodeCancel, Detail: "response declined"})
}

// ResponseReset says that the upstream has given up, or, after a complete response, that it takes no more of the
// request: the downstream is then reset with the zero Reason. If no response has begun, the observer may take over
// (it is asked if it is a Rejecter); else the downstream is reset.
func (x *Exchange) ResponseReset(why Reason) {
	if x.done {
		return
	}
	x.Up, x.UpState = nil, nil
	if x.respEnd { // the answer is whole: the upstream only wants no more of the request
		x.Down.Reset(x, Reason{})
		x.end(Reason{})
		return
	}
	if r, ok := x.Observer.(Rejecter); ok && !x.respHead && r.Reject(x, why) {
		return
	}
	x.Down.Reset(x, why)
	x.end(why)
}

// Responded tells whether a final response head has been passed on.
func (x *Exchange) Responded() bool { return x.respHead }

// RequestDone tells whether the whole request has been passed on.
func (x *Exchange) RequestDone() bool { return x.reqEnd }

// Done tells whether the exchange is over.
func (x *Exchange) Done() bool { return x.done }

// finish ends an exchange whose response has ended. A request that is still being sent is the codecs' matter:
// the upstream's codec resets or drains it by its protocol's rules.
func (x *Exchange) finish() {
	if x.respEnd && x.reqEnd {
		x.end(Reason{})
	}
}

func (x *Exchange) end(why Reason) {
	if x.done {
		return
	}
	x.done = true
	if x.Observer != nil {
		x.Observer.Done(x, why)
	}
}
