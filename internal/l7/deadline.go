package l7

import (
	"cmp"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// deadlines are the time limits that a rule or a policy sets to a request. Their timers are the loop's.
type deadlines struct {
	ofRequest, ofAttempt, ofSilence func() // cancel the timer; nil if none runs
	silence                         time.Duration
	moved                           time.Time // when a byte has last gone either way
}

// limit starts the clocks of the whole request; 0 is no limit.
func (r *request) limit(whole, silence time.Duration) {
	l, d := r.s.w.l, &r.clocks
	if whole > 0 {
		d.ofRequest = l.After(whole, r.late)
	}
	if silence > 0 {
		d.silence, d.moved = silence, l.Now()
		d.ofSilence = l.After(silence, r.silent)
	}
}

// late ends a request whose time is over, wherever it is.
func (r *request) late() {
	r.clocks.ofRequest = nil
	r.timeOut("the request's time is over")
}

// silent ends a request by which no byte has gone for too long. The clock is not moved by each byte: it looks when it is due.
func (r *request) silent() {
	d := &r.clocks
	if left := d.silence - r.s.w.l.Now().Sub(d.moved); left > 0 {
		d.ofSilence = r.s.w.l.After(left, r.silent)
		return
	}
	d.ofSilence = nil
	r.timeOut("no byte has come for too long")
}

// stir notes that bytes have gone.
func (r *request) stir() {
	if r.clocks.silence > 0 {
		r.clocks.moved = r.s.w.l.Now()
	}
}

// attempt starts the clock of one attempt, in the place of the last one's.
func (r *request) attempt() {
	stop(&r.clocks.ofAttempt)
	if limit := r.attemptLimit(); limit > 0 {
		r.clocks.ofAttempt = r.s.w.l.After(limit, r.overdue)
	}
}

// overdue gives an attempt up.
func (r *request) overdue() {
	r.clocks.ofAttempt = nil
	if !r.x.Responded() && r.overdueAgain() {
		return
	}
	r.timeOut("the attempt's time is over")
}

// timeOut ends a request: with an answer, or by a reset where a response has begun. One of gRPC has an end that tells the status.
func (r *request) timeOut(text string) {
	r.leave(errLate)
	if !r.rec.GRPC || !r.x.Responded() || r.head.Version != exchange.HTTP2 {
		r.fail(CauseTimeout, 504, grpcDeadline, text)
		return
	}
	r.rec.Cause = CauseTimeout
	r.x.Recall(exchange.Reason{Code: exchange.CodeCancel, Detail: "timeout"})
	r.x.ResponseTrailers([]exchange.Field{{Name: "grpc-status", Value: "4"}, {Name: "grpc-message", Value: text}})
	r.x.ResponseReset(exchange.Reason{}) // of what the client may still send
}

// accepted ends the clocks of a request that has become a tunnel: it lasts as long as its ends want, or until it is silent.
func (d *deadlines) accepted() {
	stop(&d.ofRequest)
	stop(&d.ofAttempt)
}

// end ends all clocks.
func (d *deadlines) end() {
	d.accepted()
	stop(&d.ofSilence)
}

// stop cancels a timer, if it runs.
func stop(timer *func()) {
	if *timer != nil {
		(*timer)()
		*timer = nil
	}
}

// limits are the whole request's time and silence, as the rule and its policy have them: the rule comes first.
func (r *request) limits() (whole, silence time.Duration) {
	if r.way.rule != nil {
		whole = r.way.rule.Request
	}
	if p := r.way.policy; p != nil && p.Timeouts != nil {
		whole, silence = cmp.Or(whole, p.Timeouts.Request), p.Timeouts.Idle
	}
	return whole, silence
}

// attemptLimit is the time of one attempt: what retries say of it holds beside the rest.
func (r *request) attemptLimit() (d time.Duration) {
	if r.way.rule != nil {
		d = r.way.rule.Attempt
	}
	p := r.way.policy
	if p != nil && p.Timeouts != nil {
		d = cmp.Or(d, p.Timeouts.Attempt)
	}
	if p != nil && p.Retry != nil && p.Retry.Attempt > 0 && (d == 0 || p.Retry.Attempt < d) {
		d = p.Retry.Attempt
	}
	return d
}
