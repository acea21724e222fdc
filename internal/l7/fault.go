package l7

import (
	"math/rand/v2"

	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// disturbed does what a policy says to test those who call: it delays the request, answers it, or both. It tells whether it
// has taken the request over.
func (r *request) disturbed(faults routing.Faults) bool {
	if len(faults) == 0 {
		return false
	}
	f := faults.Draw(&r.asked, rand.Float64)
	if f == nil {
		return false
	}
	r.rec.Fault = true
	r.event(EventFaulted)
	if f.Delay == 0 {
		return r.aborted(f)
	}
	r.retries.pause = r.s.w.l.After(f.Delay, func() {
		r.retries.pause = nil
		if !r.aborted(f) {
			r.follow()
		}
	})
	return true
}

// aborted answers the request, if the fault says so. A status of gRPC is for calls of gRPC only, as is one of HTTP for the others
// where both are given.
func (r *request) aborted(f *mesh.Fault) bool {
	switch {
	case f.Abort && r.rec.GRPC:
		r.fail(CauseFault, httpOf(f.Status), f.GRPC, "fault")
	case f.Status != 0:
		r.fail(CauseFault, f.Status, grpcOf(f.Status), "fault")
	default:
		return false
	}
	return true
}

func httpOf(status int) int {
	if status == 0 {
		return 503
	}
	return status
}

// grpcOf is what a client of gRPC makes of a status of HTTP.
func grpcOf(status int) uint32 {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return grpcDenied
	case 404:
		return grpcUnimplemented
	case 429, 502, 503, 504:
		return grpcUnavailable
	}
	return grpcUnknown
}
