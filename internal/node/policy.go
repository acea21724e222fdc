package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/policy"
)

// ErrPlain is returned for a connection that does not prove who it is, to a pod that wants to know.
var ErrPlain = errors.New("takes connections over mutual TLS of the mesh only")

// Client reads the peer's certificate once for all the requests of its connection.
func (b *brain) Client(a *l7.Arrival) any {
	peer, err := identity.PeerOf(*a.TLS)
	if err != nil {
		return nil // Authorize says why
	}
	who := &policy.Client{ID: peer.ID.String(), Addr: a.Peer.Addr().Unmap(), Authenticated: true}
	who.Account, _ = peer.ID.Account()
	return who
}

// AuthorizeRequest decides about a request.
func (b *brain) AuthorizeRequest(a *l7.Arrival, h *exchange.Head, count bool) error {
	return b.decide(a, (*view)(h), count)
}

// decide answers for what comes to a local pod: a connection, opaque bytes, or a request. A pod's connections to itself are its
// own affair. Of a pod that the table does not know nothing can be told: who comes to it waits, and is refused if that lasts. Only
// where there are no policies at all is who proves to be of the mesh let in meanwhile.
func (b *brain) decide(a *l7.Arrival, r policy.Request, count bool) error {
	if a.TLS == nil && a.Pod.Has(a.Peer.Addr()) {
		return nil
	}
	s := b.world.Snapshot()
	row := s.Pod(a.Pod.UID)
	switch {
	case row == nil && a.TLS != nil && len(s.Authorizations()) == 0:
		return nil
	case row == nil:
		return fmt.Errorf("policy of the pod: %w", l7.ErrUndecided)
	}
	e := b.deciders.of(s, a.Pod, row)
	if e.Trivial() {
		return nil
	}
	who, _ := a.Client.(*policy.Client)
	if who == nil && a.TLS != nil {
		who, _ = b.Client(a).(*policy.Client)
	}
	if who == nil {
		plain := b.claimed(s, a, e.NeedsID())
		who = &plain
	}
	v := policy.Verdict{}
	if r != nil || a.Opaque {
		v = e.Request(who, a.Port, r)
	} else if v = e.Connection(who, a.Port); v.NeedsRequest {
		return nil
	}
	if count {
		e.count(b.metrics, l7.Inbound, v)
		var room [8]*policy.Rule
		for _, hit := range e.Audited(room[:0], who, a.Port, r) {
			e.audited(b.metrics, hit)
		}
	}
	if v.Allowed {
		return nil
	}
	return e.refusal(who, v)
}

// claimed is who a client without a certificate may be, by the table.
func (b *brain) claimed(s *mesh.Snapshot, a *l7.Arrival, id bool) policy.Client {
	who := policy.Client{Addr: a.Peer.Addr().Unmap()}
	if q := s.PodByAddr(who.Addr); q != nil {
		who.Account = q.Account
		if id && b.creds != nil {
			who.ID = b.creds.id(q.Account)
		}
	}
	return who
}

// refusal names the policy, for the log and those who ask: no client is told.
func (e *enforced) refusal(who *policy.Client, v policy.Verdict) error {
	switch by := v.By; {
	case by.Default && by.Stated != mesh.PolicyDeny && !who.Authenticated:
		return fmt.Errorf("%s %w", e.pod, ErrPlain)
	case by.Default:
		return fmt.Errorf("%s: %w: %s", e.pod, l7.ErrDenied, said(by))
	default:
		return fmt.Errorf("%s, client %s: %w: %s", e.pod, nameOf(who), l7.ErrDenied, said(by))
	}
}

func nameOf(who *policy.Client) string {
	if who.Authenticated {
		return who.Account.String()
	}
	return "without mutual TLS"
}

// said is a rule in words.
func said(r *policy.Rule) string {
	switch {
	case r.Default:
		return "default policy " + r.Stated.String()
	case r.Index < 0 && r.Action == mesh.Allow:
		return fmt.Sprintf("no ALLOW matches (such as %s)", r.Policy)
	case r.Index < 0:
		return fmt.Sprintf("%s is not understood here", r.Policy)
	}
	return fmt.Sprintf("%s %s, rule %d", r.Action, r.Policy, r.Index)
}

// Permit asks the policies of the pod that a request goes to, where they need no more than the caller's identity. An address
// may be another by the time that the pod sees it.
func (b *brain) Permit(p *l7.Pod, to *balance.Endpoint, h *exchange.Head) error {
	if to.Pod == nil {
		return nil
	}
	s := b.world.Snapshot()
	row := s.Pod(to.Pod.UID)
	if row == nil {
		return nil
	}
	e := b.deciders.of(s, nil, row)
	if e.Trivial() || e.NeedsAddress() {
		return nil
	}
	who := policy.Client{Account: p.Account, Authenticated: true}
	if e.NeedsID() {
		who.ID = b.creds.id(p.Account)
	}
	v := e.Request(&who, to.Addr.Port(), (*view)(h))
	if v.Allowed {
		return nil
	}
	e.count(b.metrics, l7.Outbound, v)
	return e.refusal(&who, v)
}

// Policy is what decides for a local pod.
func (b *brain) Policy(p *l7.Pod) any {
	s := b.world.Snapshot()
	if row := s.Pod(p.UID); row != nil {
		return b.deciders.of(s, p, row)
	}
	return nil
}

// explain is what a client of that address would get, and why.
func (b *brain) explain(p *l7.Pod, src netip.Addr, port uint16) (plain, mutual string) {
	s := b.world.Snapshot()
	row := s.Pod(p.UID)
	if row == nil {
		return "is not decided: the table does not have the pod", "passes where there is no policy at all, and is not decided otherwise"
	}
	e := b.deciders.of(s, p, row)
	if e.Trivial() {
		return "passes", "passes"
	}
	who := b.claimed(s, &l7.Arrival{Pod: p, Peer: netip.AddrPortFrom(src, 0)}, e.NeedsID())
	tell := func() string {
		v := e.Connection(&who, port)
		switch {
		case v.NeedsRequest:
			return "passes, and each request is asked about; of opaque bytes " + passes(e.Request(&who, port, nil))
		default:
			return passes(v)
		}
	}
	plain = tell()
	who.Authenticated = true
	return plain, tell()
}

func passes(v policy.Verdict) string {
	if v.Allowed {
		return "passes (" + said(v.By) + ")"
	}
	return "is refused (" + said(v.By) + ")"
}

// Decided waits until the table knows the pod.
func (b *brain) Decided(ctx context.Context, p *l7.Pod) {
	_, _ = b.world.Wait(ctx, func(s *mesh.Snapshot) bool { return s.Pod(p.UID) != nil })
}
