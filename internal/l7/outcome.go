package l7

import (
	"context"
	"errors"
	"fmt"
	"os"

	"fairlead.io/fairlead/internal/l7/balance"
)

// What endpoints are told beside success.
var (
	errUpstream = errors.New("upstream failed")
	errClient   = errors.New("client is to blame")
	errLate     = fmt.Errorf("no answer in time: %w", os.ErrDeadlineExceeded)
)

// errDeclined is an answer that is not passed on, by what it says of the endpoint.
type errDeclined balance.Outcome

func (errDeclined) Error() string { return "response declined" }

// leave tells the endpoint how it went.
func (r *request) leave(err error) {
	if r.ep == nil || r.final {
		return
	}
	r.final = true
	// What dialled has told of a connection that failed, once for all that waited for it.
	if err == errClient || errors.Is(err, errConnect) {
		r.ep.Drop()
		return
	}
	if r.x.Tunnel && err == nil {
		r.ep.Reached()
		r.ep.Drop()
		return
	}
	took := r.s.w.l.Now().Sub(r.began)
	if r.rec.Status != 0 {
		took = r.rec.Duration // until the response's head
	}
	r.ep.Report(took, r.outcome(err))
}

// outcome is what the endpoint's answer says of it.
func (r *request) outcome(err error) balance.Outcome {
	if d, ok := err.(errDeclined); ok {
		return balance.Outcome(d)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return balance.TimedOut
	case err != nil:
		return balance.Unreachable
	}
	if o := balance.OfHTTP(r.rec.Status); o != balance.Succeeded {
		return o
	}
	return balance.OfGRPC(r.rec.GRPCStatus)
}
