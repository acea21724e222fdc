package l7

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/routing"
)

// Codes of gRPC (google.rpc.Code).
const (
	grpcCancelled   = 1
	grpcUnknown     = 2
	grpcDeadline    = 4
	grpcDenied      = 7
	grpcExhausted   = 8
	grpcUnavailable = 14

	grpcUnimplemented = 12
)

// request is one request on its way: the exchange's observer, and a tap on both of its sides.
type request struct {
	x     exchange.Exchange // the two live and end together
	s     *httpSession
	over  bool          // in the loop's list of those that have ended
	head  exchange.Head // a copy, for the request may have to be sent again
	tries attempts
	ep    *balance.Endpoint // outbound only

	asked  routing.Request // what rules look at
	way    way
	out    exchange.Head // what is sent, if edited
	edited bool
	copied bool // it is a copy for a mirror

	clocks        deadlines
	retries       retries
	copies        copies
	sooner, later *request // of the session, while they are under way

	began time.Time // at ep
	sends int       // how often it was given to a connection
	final bool      // the endpoint has been told

	up       *upstream // stays when the exchange has ended: what still waits to be sent gives its credit there
	counted  bool      // among up's active requests
	waitsIn  *group
	patience func()           // cancels the end of the wait
	kept     exchange.Account // large heads, and what upTap keeps
	down     downTap
	upTap    upTap
	rec      RequestRecord
}

// start fills in r, whose exchange a codec has made.
func (r *request) start(s *httpSession, h *exchange.Head, end bool) {
	f, x := s.f, &r.x
	x.Hold() // until Done
	r.s = s
	fields := append(r.head.Fields[:0], h.Fields...)
	r.head = *h
	r.head.Fields = fields
	r.rec = RequestRecord{Direction: f.dir, Pod: f.spec, Peer: f.rec.Peer, PeerAddr: f.peer, Port: f.local.Port(),
		Version: h.Version, Security: f.rec.Security, State: s.state, Began: s.w.l.Now(), Head: &r.head, Tag: &s.tag}
	if s.route.dst != nil {
		r.head.Service = s.route.service
		r.rec.Service = s.route.dst.Service
		r.tries = attempts{p: f.p, spec: f.spec, dst: s.route.dst, cluster: s.route.dst.Cluster, client: f.peer.Addr(), tried: r.tries.tried[:0]}
	} else {
		r.rec.Service = s.serviceOf(h.Service)
		r.head.Service = ""
	}
	ct, _ := exchange.Get(h.Fields, "content-type")
	r.rec.GRPC = strings.HasPrefix(ct, "application/grpc")
	r.upTap = upTap{r: r, end: end, kept: r.upTap.kept[:0]}
	if d, ok := x.Down.(exchange.Downstream); ok {
		r.down = downTap{Downstream: d, r: r, head: exchange.Head{Fields: r.down.head.Fields[:0]}}
		x.Down = &r.down
	}
	x.Observer = r
	r.kept.Open(f.budget())
	r.keep(0)
}

// keep says how much of the body is kept. Little things are not counted: there are as many requests as Limits.Requests.
func (r *request) keep(body int) {
	if n := body + len(r.copies.body) + exchange.Size(r.head.Fields) + exchange.Size(r.upTap.trailers); n > uncounted || r.kept.Held() > 0 {
		r.kept.Set(n)
	}
}

// uncounted is what a request may keep and not be counted.
const uncounted = 4 << 10

// begin finds the request a place to go to, the next one if there has been one.
func (r *request) begin() {
	s := r.s
	if s.route.in == nil {
		r.choose()
		return
	}
	t := target{pod: s.f.p, wire: wireH1, addr: s.f.local, client: s.f.peer.Addr()}
	if r.head.Version == exchange.HTTP2 {
		t.wire = wireH2
	}
	s.w.group(t).send(r, r.sends > 0)
}

// first sends the request to an endpoint of the cluster that it is for.
func (r *request) first() {
	ep, err := r.tries.pick()
	if err != nil {
		r.nowhere(err)
		return
	}
	r.take(ep)
}

// nowhere answers a request for which there is no endpoint.
func (r *request) nowhere(err error) {
	switch {
	case errors.Is(err, balance.ErrBroken):
		r.event(EventBroken)
		r.fail(CauseNoReady, 503, grpcUnavailable, "every endpoint fails and is on probation")
	case errors.Is(err, balance.ErrOverloaded):
		r.event(EventOverloaded)
		r.fail(CauseLimit, 503, grpcUnavailable, "every endpoint is at its limit")
	default:
		r.fail(CauseNoReady, 503, grpcUnavailable, "no endpoint is ready")
	}
}

// to sends the request to its endpoint.
func (r *request) to(fresh bool) {
	t := target{pod: r.s.f.p, addr: r.ep.Addr, wire: wireH1}
	switch {
	case r.rec.Security == SecurityMTLS:
		t.wire, t.account = wireMesh, r.ep.Account
	case r.head.Version == exchange.HTTP2:
		t.wire = wireH2
	}
	r.s.w.group(t).send(r, fresh)
}

// sent is called when a connection has taken the head.
func (r *request) sent(u *upstream) {
	r.up, r.counted = u, true
	if r.ep != nil {
		r.rec.State = u.state
	}
	r.began = r.s.w.l.Now() // to make the connection is not the endpoint's latency
	r.sends++
	r.rec.Attempts = r.sends
	r.upTap.replay(&r.x)
	r.x.Bind(&r.upTap)
}

// release ends r's place among the active requests of its connection.
func (r *request) release() {
	if r.counted {
		r.counted = false
		r.up.done()
	}
}

// served ends the wait for a connection.
func (r *request) served() {
	r.waitsIn = nil
	if r.patience != nil {
		r.patience()
		r.patience = nil
	}
}

func (r *request) impatient() {
	r.patience = nil
	r.waitsIn.cancel(r)
	r.leave(errUpstream)
	r.fail(CauseTimeout, 504, grpcDeadline, "no connection came free in time")
}

// ended tells whether the head is all that there is to send.
func (r *request) ended() bool { return r.upTap.ended() }

// unreachable is called when no connection to the endpoint could be made.
func (r *request) unreachable(err error) {
	cause := dialCause(err)
	if r.ep == nil && r.s.route.private && r.sends == 0 { // the caller's node may know another endpoint
		r.rec.Cause = cause
		r.x.Refuse(exchange.Reason{Code: exchange.CodeConnect, Unprocessed: true, Detail: "app cannot be reached"})
		return
	}
	if r.ep == nil { // the own app: there is no other
		r.fail(cause, statusOf(err), codeOf(err), "app cannot be reached")
		return
	}
	r.leave(err)
	ep, pickErr := r.tries.pick()
	if pickErr != nil {
		if r.lostAgain() {
			return
		}
		r.fail(cause, statusOf(err), codeOf(err), "no endpoint can be reached")
		return
	}
	r.take(ep)
}

// elsewhere sends a request that its endpoint has given back to another one, or to the same if there is no other.
func (r *request) elsewhere() {
	ep := r.ep
	r.leave(errUpstream)
	if other, err := r.tries.pick(); err == nil {
		ep = other
	}
	r.take(ep)
}

// take moves the request to another endpoint.
func (r *request) take(ep *balance.Endpoint) {
	if !r.permitted(ep) {
		return
	}
	r.ep, r.began, r.final = ep, r.s.w.l.Now(), false
	ep.Start()
	r.attempt()
	r.rec.Peer, r.rec.PeerAddr, r.rec.Security = ep.Pod, ep.Addr, securityOf(r.s.f.spec, ep)
	r.to(false)
}

// unknown is called when the upstream does not know extended CONNECT (RFC 8441).
func (r *request) unknown() {
	r.leave(nil)
	r.fail(CauseProtocol, 501, grpcUnimplemented, "the server knows no extended CONNECT")
}

// statusOf is the status of a request that reached no upstream.
func statusOf(err error) int {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return 504
	}
	return 502
}

func codeOf(err error) uint32 {
	if statusOf(err) == 504 {
		return grpcDeadline
	}
	return grpcUnavailable
}

// fail answers in our own name.
func (r *request) fail(cause Cause, status int, grpc uint32, text string) {
	r.rec.Cause, r.rec.GRPCStatus = cause, grpc
	if !r.x.Responded() {
		r.rec.Status = status
	}
	r.x.Fail(status, grpc, cause.String(), text)
}

// Reject implements exchange.Rejecter: the upstream has failed before a response began.
func (r *request) Reject(x *exchange.Exchange, why exchange.Reason) bool {
	r.release()
	safe := why.Unprocessed || why.Reused && idempotent(&r.head)
	if safe && r.upTap.whole() && r.sends < r.s.w.e.lim.Attempts {
		r.s.w.e.rec.Event(r.s.f.spec, r.s.f.dir, EventRetry)
		// The codec is still at work: go on behind it.
		x.Hold()
		r.s.w.l.Post(func() {
			defer x.Drop()
			if x.Done() {
				return
			}
			switch {
			case r.ep == nil:
				r.begin()
			case why.Unprocessed:
				r.elsewhere()
			default:
				r.to(true)
			}
		})
		return true
	}
	r.leave(errUpstream)
	if r.lostAgain() {
		return true
	}
	if r.rec.GRPC && r.head.Version == exchange.HTTP2 && why.Code == exchange.CodeCancel {
		// That is how a server ends a call whose deadline has passed, often before its client does. The client makes the right
		// status of the reset, by its own clock; UNAVAILABLE would tell it to try again.
		r.rec.GRPCStatus = grpcCancelled
		return false
	}
	status, code := 502, uint32(grpcUnavailable)
	switch why.Code {
	case exchange.CodeTimeout:
		status, code = 504, grpcDeadline
	case exchange.CodeLimit:
		status, code = 503, grpcExhausted
	}
	r.fail(causeOfReason(why), status, code, "upstream failed before it answered")
	return true
}

// idempotent tells whether a request may be sent twice (RFC 9110 section 9.2.2).
func idempotent(h *exchange.Head) bool {
	switch h.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return h.Protocol == ""
	}
	return false
}

// ResponseHead implements exchange.Observer.
func (r *request) ResponseHead(_ *exchange.Exchange, h *exchange.Head) {
	if h.Status < 200 && h.Status != 101 {
		return
	}
	r.rec.Status = h.Status
	r.rec.Duration = r.s.w.l.Now().Sub(r.began)
	if h.Status == 101 || r.x.Tunnel && h.Status/100 == 2 {
		r.clocks.accepted()
	}
	r.upTap.answered()
	r.grpcStatus(h.Fields)
}

// ResponseTrailers implements exchange.Observer.
func (r *request) ResponseTrailers(_ *exchange.Exchange, f []exchange.Field) { r.grpcStatus(f) }

func (r *request) grpcStatus(f []exchange.Field) {
	if !r.rec.GRPC {
		return
	}
	if v, ok := exchange.Get(f, "grpc-status"); ok {
		r.rec.GRPCStatus = grpcCode(v)
	}
}

// grpcCode reads a grpc-status; one that is none is UNKNOWN.
func grpcCode(v string) uint32 {
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil {
		return grpcUnknown
	}
	return uint32(n)
}

// Done implements exchange.Observer.
func (r *request) Done(_ *exchange.Exchange, why exchange.Reason) {
	if r.waitsIn != nil {
		r.waitsIn.cancel(r)
	}
	r.release()
	r.clocks.end()
	stop(&r.retries.pause)
	if len(r.copies.to) > 0 {
		r.copies.drop(r)
	}
	var err error
	switch {
	case r.x.GaveUp && why.Code != exchange.CodeCancel: // it broke the protocol, or did not read
		err = errClient
	case why.Code != exchange.CodeNone && why.Code != exchange.CodeCancel:
		err = errUpstream
	case r.rec.Status >= 502 && r.rec.Status <= 504: // quick, but no reason to choose the endpoint more often
		err = errUpstream
	}
	r.leave(err)
	if r.copied {
		r.copyDone()
		return
	}
	if r.rec.Cause == CauseNone {
		r.rec.Cause = causeOfReason(why)
	}
	r.rec.Duration = r.s.w.l.Now().Sub(r.rec.Began)
	r.s.w.e.rec.Request(&r.rec)
	r.part()
	r.s.active--
	r.s.last = r.s.w.l.Now()
	r.s.f.p.requests[r.s.f.dir].Add(-1)
	r.kept.Set(0)
	r.x.Drop()
}

func causeOfReason(why exchange.Reason) Cause {
	switch why.Code {
	case exchange.CodeNone:
		return CauseNone
	case exchange.CodeCancel:
		return CauseCancel
	case exchange.CodeConnect:
		return CauseConnect
	case exchange.CodeClosed:
		return CauseClosed
	case exchange.CodeProtocol:
		return CauseProtocol
	case exchange.CodeTimeout:
		return CauseTimeout
	case exchange.CodeLimit:
		return CauseLimit
	case exchange.CodeRefused:
		return CauseRefused
	}
	return CauseInternal
}
