package policy

import (
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// set is the rules of one action, by what of a client they ask for first, so that a client meets few of them.
type set struct {
	rules      []*Rule
	byAccount  map[mesh.Account][]*entry
	byNS       map[string][]*entry
	byID       map[string][]*entry
	everywhere []*entry // beginnings of IDs, ranges of addresses, everybody
}

// entry is one peer of a rule, and what of its requests.
type entry struct {
	rule  *Rule
	at    ports
	peer  *mesh.Peer // nil is everybody
	to    []condition
	asks  bool // about requests
	deny  bool // what cannot be known counts as matched, and what the table says of an address counts
	blind bool // of a later version: matches nothing, or everything for DENY
}

// question is what is known: nothing of requests yet, a request, or that there are none.
type question struct {
	asked bool
	r     Request
}

func (s *set) empty() bool { return len(s.rules) == 0 }

// everything adds an entry that matches whatever comes to the ports.
func (s *set) everything(r *Rule, at ports) {
	s.rules = append(s.rules, r)
	s.everywhere = append(s.everywhere, &entry{rule: r, at: at, deny: true})
}

func (s *set) add(a *mesh.AuthRule, r *Rule, at ports, deny bool) {
	s.rules = append(s.rules, r)
	base := entry{rule: r, at: at, deny: deny, asks: len(a.To) > 0}
	for i := range a.To {
		base.to = append(base.to, conditions(&a.To[i])...)
	}
	if len(a.From) == 0 {
		s.everywhere = append(s.everywhere, &base)
		return
	}
	for i := range a.From {
		e := base
		e.peer = &a.From[i]
		e.blind = nothing(e.peer)
		s.index(&e)
	}
}

// nothing tells that a peer asks for nothing that is known here: it has a part of a later version, for none has no part.
func nothing(p *mesh.Peer) bool {
	return len(p.IDs)+len(p.Accounts)+len(p.Namespaces)+len(p.CIDRs)+len(p.Except) == 0 && !p.Authenticated && !p.Unauthenticated
}

func (s *set) index(e *entry) {
	p := e.peer
	switch {
	case e.blind && !e.deny:
	case len(p.Accounts) > 0:
		s.byAccount = grown(s.byAccount, e, p.Accounts)
	case len(p.Namespaces) > 0:
		s.byNS = grown(s.byNS, e, p.Namespaces)
	case len(p.IDs) > 0 && !beginnings(p.IDs):
		s.byID = grown(s.byID, e, p.IDs)
	default:
		s.everywhere = append(s.everywhere, e)
	}
}

func beginnings(ids []string) bool {
	for _, id := range ids {
		if strings.HasSuffix(id, "*") {
			return true
		}
	}
	return false
}

func grown[K comparable](m map[K][]*entry, e *entry, keys []K) map[K][]*entry {
	if m == nil {
		m = map[K][]*entry{}
	}
	for _, k := range keys {
		if l := m[k]; len(l) == 0 || l[len(l)-1] != e {
			m[k] = append(l, e)
		}
	}
	return m
}

// lists are where entries for a client may be.
func (s *set) lists(who *Client) [4][]*entry {
	l := [4][]*entry{3: s.everywhere}
	if who.Account != (mesh.Account{}) {
		l[0], l[1] = s.byAccount[who.Account], s.byNS[who.Account.Namespace]
	}
	if who.ID != "" {
		l[2] = s.byID[who.ID]
	}
	return l
}

// match is the first rule that matches for certain, and whether one may, depending on requests.
func (s *set) match(who *Client, port uint16, q question) (by *Rule, perhaps bool) {
	for _, list := range s.lists(who) {
		for _, e := range list {
			if !e.at.has(port) || !e.from(who) {
				continue
			}
			if e.asks && !q.asked {
				perhaps = true
				continue
			}
			if e.does(q.r) {
				return e.rule, false
			}
		}
	}
	return nil, perhaps
}

// all appends every rule that matches, each once.
func (s *set) all(hits []*Rule, who *Client, port uint16, q question) []*Rule {
	begin := len(hits)
	for _, list := range s.lists(who) {
		for _, e := range list {
			if e.at.has(port) && e.from(who) && e.does(q.r) && !has(hits[begin:], e.rule) {
				hits = append(hits, e.rule)
			}
		}
	}
	return hits
}

func has(rules []*Rule, r *Rule) bool {
	for _, x := range rules {
		if x == r {
			return true
		}
	}
	return false
}

// from tells whether a client is one that the entry is for.
func (e *entry) from(who *Client) bool {
	p := e.peer
	if p == nil {
		return true
	}
	if e.blind {
		return e.deny
	}
	if p.Authenticated && !who.Authenticated || p.Unauthenticated && who.Authenticated {
		return false
	}
	if len(p.IDs)+len(p.Accounts)+len(p.Namespaces) > 0 && !who.Authenticated && !e.deny {
		return false
	}
	return named(p, who) && inRange(p, who)
}

func named(p *mesh.Peer, who *Client) bool {
	ok := len(p.Accounts) == 0
	for i := 0; i < len(p.Accounts) && !ok; i++ {
		ok = p.Accounts[i] == who.Account
	}
	if !ok {
		return false
	}
	ok = len(p.Namespaces) == 0
	for i := 0; i < len(p.Namespaces) && !ok; i++ {
		ok = p.Namespaces[i] != "" && p.Namespaces[i] == who.Account.Namespace
	}
	if !ok {
		return false
	}
	ok = len(p.IDs) == 0
	for i := 0; i < len(p.IDs) && !ok; i++ {
		start, open := strings.CutSuffix(p.IDs[i], "*")
		ok = who.ID != "" && (who.ID == p.IDs[i] || open && strings.HasPrefix(who.ID, start))
	}
	return ok
}

func inRange(p *mesh.Peer, who *Client) bool {
	if len(p.CIDRs)+len(p.Except) == 0 {
		return true
	}
	for _, r := range p.Except {
		if r.Contains(who.Addr) {
			return false
		}
	}
	for _, r := range p.CIDRs {
		if r.Contains(who.Addr) {
			return true
		}
	}
	return false
}

// does tells whether a request is one that the entry is for; nil is opaque bytes.
func (e *entry) does(r Request) bool {
	if !e.asks {
		return true
	}
	if r == nil {
		return e.deny
	}
	for i := range e.to {
		if e.to[i].holds(r, e.deny) {
			return true
		}
	}
	return false
}
