package l7

import (
	"errors"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
)

// ErrDenied is what Brain.Authorize returns, or wraps, where a policy refuses who has proved to be who he is. Unlike a wrong
// identity it is told to a client in an answer, if HTTP is what he speaks.
var ErrDenied = errors.New("denied by policy")

// deniedText is what a client is told. Which policy it was is nothing to tell him.
const deniedText = "denied by policy"

// Policies is the part of a Brain that decides about requests. None of its methods waits.
type Policies interface {
	// Client is what is to be kept of who made a connection (Arrival.Client), so that no request has to read his
	// certificate again.
	Client(a *Arrival) any
	// AuthorizeRequest is asked before a request reaches the app, about the connection that it came on, and again about
	// one that is under way: then its answer is not to be counted.
	AuthorizeRequest(a *Arrival, h *exchange.Head, count bool) error
	// Permit is asked by the caller's side, before a request is sent to a pod of the mesh: it saves a way that is in
	// vain. That pod's side is asked in any case.
	Permit(p *Pod, e *balance.Endpoint, h *exchange.Head) error
	// Policy is what decides for a pod; it is another, once it decides otherwise.
	Policy(p *Pod) any
}

// refusal is the text of an answer.
func refusal(err error) string {
	if errors.Is(err, ErrDenied) {
		return deniedText
	}
	return "only mutual TLS of the mesh is let in here"
}

// admit asks about a request that has come to the pod, and answers it if it is denied.
func (r *request) admit() bool {
	s := r.s
	a := s.f.admitted.Load()
	if s.route.in == nil || a == nil {
		return true
	}
	if err := s.f.e.brain.AuthorizeRequest(a, &r.head, true); err != nil && !errors.Is(err, ErrUndecided) {
		r.fail(CauseRefused, 403, grpcDenied, deniedText)
		return false
	}
	return true
}

// permitted asks about a request that the pod sends, and answers it if its endpoint would deny it.
func (r *request) permitted(ep *balance.Endpoint) bool {
	f := r.s.f
	if securityOf(f.spec, ep) != SecurityMTLS || f.e.brain.Permit(f.spec, ep, r.outgoing()) == nil {
		return true
	}
	r.ep, r.final = nil, true
	r.rec.Peer, r.rec.PeerAddr = ep.Pod, ep.Addr
	r.fail(CauseRefused, 403, grpcDenied, deniedText)
	return false
}

// join puts r among its session's requests, part takes it out.
func (r *request) join() {
	s := r.s
	if r.later = s.newest; r.later != nil {
		r.later.sooner = r
	}
	s.newest = r
}

func (r *request) part() {
	switch {
	case r.sooner != nil:
		r.sooner.later = r.later
	case r.s.newest == r:
		r.s.newest = r.later
	}
	if r.later != nil {
		r.later.sooner = r.sooner
	}
	r.sooner, r.later = nil, nil
}

// recheck asks again about the requests under way, and ends those that are denied by now.
func (s *httpSession) recheck() {
	s.w.l.Do(func() {
		a, told := s.f.admitted.Load(), false
		if a == nil || s.ended {
			return
		}
		var next *request
		for r := s.newest; r != nil; r = next {
			next = r.later
			if r.x.Done() || s.f.e.brain.AuthorizeRequest(a, &r.head, false) == nil {
				continue
			}
			if !told {
				told = true
				s.f.e.rec.Event(s.f.spec, Inbound, EventForbidden)
			}
			r.fail(CauseRefused, 403, grpcDenied, deniedText)
		}
	})
}

// asOpaque asks about a connection to the pod once it is clear that its bytes are opaque.
func (f *flow) asOpaque() error {
	was := f.admitted.Load()
	if was == nil {
		return nil
	}
	a := *was
	a.Opaque = true
	f.admitted.Store(&a)
	counted := a
	counted.Count = true
	if err := f.e.brain.Authorize(&counted); !errors.Is(err, ErrUndecided) {
		return err
	}
	return nil
}

// refused has a refusal counted where nothing of a request is known: the answer is the one that has been given.
func (in *arrival) refused() {
	counted := in.Arrival
	counted.Count = true
	_ = in.f.e.brain.Authorize(&counted)
}

// standing asks again about a connection. again: what decides for the pod is another than it was. It tells whether the
// connection may live.
func (p *pod) standing(s session, a *Arrival, again bool) bool {
	err := p.e.brain.Authorize(a)
	if h, ok := s.(*httpSession); ok && (err == nil || errors.Is(err, ErrDenied) && a.TLS != nil) {
		if again { // each of its requests gets its own answer
			h.recheck()
		}
		return true
	}
	return err == nil || errors.Is(err, ErrUndecided)
}
