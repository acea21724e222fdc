package l7

import (
	"math/rand/v2"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/limit"
	"fairlead.io/fairlead/internal/mesh"
)

// retries are how often a request was sent again because a policy says so. What is sent again because its endpoint certainly has
// not acted on it (Reject) is counted apart, and needs no policy.
type retries struct {
	count int
	pause func() // cancels the wait before the next one; nil if there is none
}

// Decline implements exchange.Decliner: a response whose status the policy asks to try again for is not passed on, unless
// it is the last one that may be had.
func (r *request) Decline(_ *exchange.Exchange, h *exchange.Head, end bool) bool {
	p := r.retry()
	if p == nil || !r.asksFor(p, h, end) || !r.mayAgain(p) {
		return false
	}
	r.abandon(r.declined(h))
	r.again(p)
	return true
}

func (r *request) declined(h *exchange.Head) errDeclined {
	if v, ok := exchange.Get(h.Fields, "grpc-status"); r.rec.GRPC && ok {
		return errDeclined(balance.OfGRPC(grpcCode(v)))
	}
	return errDeclined(balance.OfHTTP(h.Status))
}

// asksFor tells whether a response is one that p sends a request again for. The status of gRPC is in the head if that is all there is.
func (r *request) asksFor(p *mesh.Retry, h *exchange.Head, end bool) bool {
	if r.rec.GRPC && end {
		if v, ok := exchange.Get(h.Fields, "grpc-status"); ok {
			return wantsCode(p, grpcCode(v))
		}
	}
	return wantsStatus(p, h.Status)
}

func wantsStatus(p *mesh.Retry, status int) bool {
	for _, s := range p.Statuses {
		if status >= int(s.First) && status <= int(s.Last) {
			return true
		}
	}
	return false
}

func wantsCode(p *mesh.Retry, code uint32) bool {
	for _, c := range p.GRPC {
		if c == code {
			return true
		}
	}
	return false
}

// lostAgain sends a request again that has got no response, if a policy says so.
func (r *request) lostAgain() bool {
	p := r.retry()
	if p == nil || !p.Connect || !r.mayAgain(p) {
		return false
	}
	r.again(p)
	return true
}

// overdueAgain sends a request again whose attempt has taken too long: it has failed if attempts have a limit of the policy's,
// or else as the answer would say that it will be given.
func (r *request) overdueAgain() bool {
	p := r.retry()
	if p == nil {
		return false
	}
	wanted := p.Attempt > 0 || wantsStatus(p, 504) || r.rec.GRPC && wantsCode(p, grpcDeadline)
	if !wanted || !r.mayAgain(p) {
		return false
	}
	if r.waitsIn != nil {
		r.waitsIn.cancel(r)
	}
	r.abandon(errLate)
	r.x.Recall(exchange.Reason{Code: exchange.CodeCancel, Detail: "attempt timeout"})
	r.again(p)
	return true
}

// mayAgain tells whether a request may be sent again, and takes that from the budget.
func (r *request) mayAgain(p *mesh.Retry) bool {
	if r.retries.count >= p.Limit || !r.upTap.whole() || r.x.Tunnel || r.x.Responded() {
		return false
	}
	if !r.budget(p).Retry(r.s.w.l.Now()) {
		r.event(EventRetryBudget)
		return false
	}
	return true
}

// abandon ends an attempt that has failed.
func (r *request) abandon(err error) {
	r.leave(err)
	r.release()
}

// again sends the request to another endpoint, after a pause. What comes of its body meanwhile waits in its codec.
func (r *request) again(p *mesh.Retry) {
	stop(&r.clocks.ofAttempt)
	r.retries.count++
	r.rec.Retries = r.retries.count
	r.event(EventRetried)
	r.retries.pause = r.s.w.l.After(backoff(p.Backoff, r.retries.count), r.resume)
}

// longestPause bounds what doubling makes of a pause.
const longestPause = 30 * time.Second

// backoff is the pause before the nth retry: it doubles, and half of it is chance, so that those who failed together do not come
// again together.
func backoff(base time.Duration, n int) time.Duration {
	if base <= 0 {
		return 0
	}
	d := min(min(base, longestPause)<<min(n-1, 16), longestPause)
	return d/2 + rand.N(d/2+1)
}

// resume makes the next attempt. Endpoints that were tried are tried again only if there is no other.
func (r *request) resume() {
	r.retries.pause = nil
	ep, err := r.tries.next()
	if err != nil {
		r.nowhere(err)
		return
	}
	r.take(ep)
}

// retry is what says when the request is sent again; nil if nothing does.
func (r *request) retry() *mesh.Retry {
	if p := r.way.policy; p != nil {
		return p.Retry
	}
	return nil
}

// budget is what the request's rule may spend on retries.
func (r *request) budget(p *mesh.Retry) *limit.Budget {
	key := budgetKey{service: r.rec.Service, port: r.s.route.dst.Port.Number, ratio: p.Ratio, floor: p.Floor}
	if rule := r.rec.Rule; rule != nil {
		key.route, key.index = rule.Route, rule.Index
	}
	return r.s.w.e.retries.of(key, p, r.s.w.l.Now())
}
