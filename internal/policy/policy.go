// Package policy decides what a pod takes: from the AuthorizationPolicies that are about it and its default policy, for a
// client and a request. It is pure: no clock, no I/O, and it knows nothing but internal/mesh.
//
// Promises:
//  1. What a DENY matches is denied. Of the rest, a port that an ALLOW is about takes what one of them matches, and nothing
//     else. What no ALLOW is about is the default policy's to decide. AUDIT never changes an answer.
//  2. What is not known here fails closed: an action, a way to compare, a policy that a row names and nobody has told.
//  3. A policy is about pods of its own namespace, or of the whole mesh: a row that says otherwise is not heeded.
//  4. A Decider never changes. To ask it takes no lock and no memory.
//  5. A client is what it has proved. What the address table says of its address counts against it, never for it.
package policy

import (
	"net/netip"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// Client is who asks.
type Client struct {
	// ID and Account are proved, if Authenticated; otherwise they are what the address table says of the address, if
	// it says something.
	ID            string
	Account       mesh.Account
	Addr          netip.Addr
	Authenticated bool // by mutual TLS of the mesh
}

// Request is what conditions on requests are about.
type Request interface {
	Verb() string   // its method
	Target() string // its path, with the query
	// Field gives the values of a header field, by its name in lower case, joined by commas.
	Field(name string) (string, bool)
}

// Rule is a rule of a policy, as verdicts name it. The zero value, with a Default, is a default policy.
type Rule struct {
	Policy  mesh.Name
	Action  mesh.Action
	Index   int  // among the policy's rules; -1 is the policy as a whole: an ALLOW none of whose rules matched, or what is not known
	Default bool // Policy is none: the pod's default policy has decided
	Stated  mesh.DefaultPolicy
}

// Verdict is what a connection or a request gets.
type Verdict struct {
	Allowed bool
	// NeedsRequest: the connection may pass, and each of its requests has to be asked about; so have opaque bytes.
	NeedsRequest bool
	By           *Rule // what has decided; nil if NeedsRequest
}

// Decider decides for one pod.
type Decider struct {
	deny, allow, audit set
	about              ports // of any ALLOW
	unmet              *Rule // what is named where an ALLOW is about a port, and none matches
	byDefault          Rule
	strict             Rule // what the default policy would have refused, if it is audit
	ids, addrs         bool // something depends on IDs, on addresses
}

// For compiles what is about a pod.
func For(s *mesh.Snapshot, pod *mesh.Pod) *Decider {
	if pod.Open {
		return &Decider{byDefault: Rule{Default: true, Stated: mesh.PolicyAllow, Index: -1}}
	}
	d := &Decider{byDefault: Rule{Default: true, Stated: pod.Policy, Index: -1}, strict: Rule{Default: true, Stated: pod.Policy, Action: mesh.Audit, Index: -1}}
	for _, a := range sorted(s.Authorizations()) {
		if where, is := aboutPod(a, pod); is {
			d.add(a, where)
		}
	}
	for _, ref := range pod.Policies {
		if s.Authorization(ref.Policy) == nil && ref.Policy.Namespace == pod.Name.Namespace {
			d.deny.everything(&Rule{Policy: ref.Policy, Action: mesh.Deny, Index: -1}, only(ref.Port))
		}
	}
	return d
}

func sorted(m map[mesh.Name]*mesh.Authorization) []*mesh.Authorization {
	all := make([]*mesh.Authorization, 0, len(m))
	for _, a := range m {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *mesh.Authorization) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name.Name, b.Name.Name)
	})
	return all
}

// aboutPod tells at which ports a policy is about a pod, if it is.
func aboutPod(a *mesh.Authorization, pod *mesh.Pod) (ports, bool) {
	own := ports{all: len(a.Ports) == 0, some: a.Ports}
	if a.Mesh {
		return own, true
	}
	if a.Namespace != pod.Name.Namespace {
		return ports{}, false
	}
	if a.All != "" {
		return own, a.All == pod.Name.Namespace
	}
	var at ports
	for _, ref := range pod.Policies {
		switch {
		case ref.Policy != a.Name:
		case ref.Port == 0:
			return own, true
		case own.has(ref.Port):
			at.some = append(at.some, ref.Port)
		}
	}
	return at, len(at.some) > 0
}

func (d *Decider) add(a *mesh.Authorization, at ports) {
	in := &d.deny
	switch a.Action {
	case mesh.Allow:
		in = &d.allow
		d.about.add(at)
		if d.unmet == nil {
			d.unmet = &Rule{Policy: a.Name, Action: a.Action, Index: -1}
		}
	case mesh.Audit:
		in = &d.audit
	case mesh.Deny:
	default:
		in.everything(&Rule{Policy: a.Name, Action: a.Action, Index: -1}, at)
		return
	}
	for i := range a.Rules {
		for _, p := range a.Rules[i].From {
			d.ids = d.ids || len(p.IDs) > 0
			d.addrs = d.addrs || len(p.CIDRs)+len(p.Except) > 0
		}
		in.add(&a.Rules[i], &Rule{Policy: a.Name, Action: a.Action, Index: i}, at, a.Action == mesh.Deny)
	}
}

// Trivial tells that no policy is about the pod, and that it takes everything.
func (d *Decider) Trivial() bool {
	return d.byDefault.Stated == mesh.PolicyAllow && d.deny.empty() && d.audit.empty() && d.about.none()
}

// NeedsID and NeedsAddress tell whether something depends on a client's ID, or his address.
func (d *Decider) NeedsID() bool { return d.ids }

// NeedsAddress is beside NeedsID.
func (d *Decider) NeedsAddress() bool { return d.addrs }

// Rules calls f for everything that a verdict may name.
func (d *Decider) Rules(f func(*Rule)) {
	for _, r := range []*Rule{&d.byDefault, &d.strict, d.unmet} {
		if r != nil {
			f(r)
		}
	}
	for _, s := range []*set{&d.deny, &d.allow, &d.audit} {
		for _, r := range s.rules {
			f(r)
		}
	}
}

// Connection decides as far as can be said before anything of a connection has been read.
func (d *Decider) Connection(who *Client, port uint16) Verdict {
	refuse, perhaps := d.deny.match(who, port, question{})
	if refuse != nil {
		return Verdict{By: refuse}
	}
	if !d.about.has(port) {
		v := d.fallback(who)
		return d.open(v, perhaps)
	}
	allow, may := d.allow.match(who, port, question{})
	switch {
	case allow != nil:
		return d.open(Verdict{Allowed: true, By: allow}, perhaps)
	case may:
		return Verdict{Allowed: true, NeedsRequest: true}
	}
	return Verdict{By: d.unmet}
}

// open is v, if nothing may be refused later.
func (d *Decider) open(v Verdict, perhaps bool) Verdict {
	if v.Allowed && perhaps {
		return Verdict{Allowed: true, NeedsRequest: true}
	}
	return v
}

// Request decides about a request; nil is opaque bytes, of which no condition on requests can be known.
func (d *Decider) Request(who *Client, port uint16, r Request) Verdict {
	q := question{asked: true, r: r}
	if refuse, _ := d.deny.match(who, port, q); refuse != nil {
		return Verdict{By: refuse}
	}
	if !d.about.has(port) {
		return d.fallback(who)
	}
	if allow, _ := d.allow.match(who, port, q); allow != nil {
		return Verdict{Allowed: true, By: allow}
	}
	return Verdict{By: d.unmet}
}

// fallback is the default policy's answer. One that is not known here is the strictest.
func (d *Decider) fallback(who *Client) Verdict {
	v := Verdict{By: &d.byDefault}
	switch d.byDefault.Stated {
	case mesh.PolicyAllow, mesh.PolicyAudit:
		v.Allowed = true
	case mesh.PolicyAuthenticated:
		v.Allowed = who.Authenticated
	}
	return v
}

// Audited appends the rules that count a request; r is as in Request. It comes beside the verdict, whatever that is.
func (d *Decider) Audited(hits []*Rule, who *Client, port uint16, r Request) []*Rule {
	if !d.audit.empty() {
		hits = d.audit.all(hits, who, port, question{asked: true, r: r})
	}
	if d.byDefault.Stated == mesh.PolicyAudit && !who.Authenticated && !d.about.has(port) {
		hits = append(hits, &d.strict)
	}
	return hits
}

// ports are some, or all.
type ports struct {
	all  bool
	some []uint16
}

func only(p uint16) ports {
	if p == 0 {
		return ports{all: true}
	}
	return ports{some: []uint16{p}}
}

func (p *ports) has(n uint16) bool { return p.all || slices.Contains(p.some, n) }

func (p *ports) none() bool { return !p.all && len(p.some) == 0 }

func (p *ports) add(q ports) {
	p.all = p.all || q.all
	for _, n := range q.some {
		if !slices.Contains(p.some, n) {
			p.some = append(p.some, n)
		}
	}
}
