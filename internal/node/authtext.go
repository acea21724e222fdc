package node

import (
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// authRuleText is a rule of a policy in words; empty for what is no rule.
func authRuleText(s *mesh.Snapshot, d *debug.AuthzRule) string {
	a := s.Authorization(mesh.Name{Namespace: d.Namespace, Name: d.Policy})
	i, err := strconv.Atoi(d.Rule)
	if a == nil || err != nil || i < 0 || i >= len(a.Rules) {
		return ""
	}
	r := &a.Rules[i]
	var from, to []string
	for j := range r.From {
		from = append(from, peerText(&r.From[j]))
	}
	for _, o := range r.To {
		for j := range o.Matches {
			to = append(to, matchText(&o.Matches[j]))
		}
	}
	text := "from " + orAny(from, "anybody")
	if len(to) > 0 {
		text += " to " + orAny(to, "*")
	}
	for j, p := range a.Ports {
		if j == 0 {
			text += " at port "
		} else {
			text += ", "
		}
		text += strconv.Itoa(int(p))
	}
	return text
}

// maxSaid bounds how many alternatives a text names.
const maxSaid = 4

func orAny(all []string, none string) string {
	if len(all) == 0 {
		return none
	}
	if more := len(all) - maxSaid; more > 0 {
		all = append(all[:maxSaid:maxSaid], strconv.Itoa(more)+" more")
	}
	return strings.Join(all, " or ")
}

// peerText is who a Peer matches: of the alternatives of one kind any, of the kinds all.
func peerText(p *mesh.Peer) string {
	var parts []string
	some := func(kind string, all []string) {
		if len(all) > 0 {
			parts = append(parts, kind+orAny(all, ""))
		}
	}
	some("", p.IDs)
	var accounts []string
	for _, a := range p.Accounts {
		accounts = append(accounts, a.Namespace+"/"+a.Name)
	}
	some("", accounts)
	some("namespace ", p.Namespaces)
	var cidrs, except []string
	for _, c := range p.CIDRs {
		cidrs = append(cidrs, c.String())
	}
	for _, c := range p.Except {
		except = append(except, c.String())
	}
	some("", cidrs)
	some("not ", except)
	if p.Authenticated {
		parts = append(parts, "authenticated")
	}
	if p.Unauthenticated {
		parts = append(parts, "unauthenticated")
	}
	if len(parts) == 0 {
		return "anybody"
	}
	return strings.Join(parts, " and ")
}
