package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/node/debug"
)

// identities are the certificates of every node.
func (s *State) identities(ctx context.Context) ([]fleet.Told[debug.Identities], error) {
	return s.leaves.get(func() ([]fleet.Told[debug.Identities], error) {
		pods, err := s.proxyPods(ctx)
		if err != nil {
			return nil, err
		}
		return fleet.Proxies[debug.Identities](ctx, s.Fleet, pods, debug.IdentitiesPath, nil), nil
	})
}

// checkLeaves holds every node's certificates against the clock and the roots.
func checkLeaves(ctx context.Context, s *State) ([]Finding, error) {
	told, err := s.identities(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.serverTime(ctx)
	if err != nil {
		return nil, err
	}
	roots := s.getTrust(ctx).roots // none if they cannot be read: then the node's own count
	var found []Finding
	asked := 0
	for _, t := range told {
		if t.Err != nil {
			continue
		}
		asked++
		found = append(found, s.checkNodeLeaves(t.Node(), t.What, roots, now)...)
	}
	if asked == 0 {
		return nil, skip("no proxy answers")
	}
	return found, nil
}

// checkNodeLeaves says each problem once, with the accounts that have it.
func (s *State) checkNodeLeaves(node string, have debug.Identities, roots []*x509.Certificate, now time.Time) []Finding {
	own, err := parsePEM([]byte(have.Roots))
	if err != nil {
		return []Finding{failed("the keeper gets them from the controller: see the checks of the nodes", "node %s: the proxy has no roots: %v", node, err)}
	}
	if len(roots) == 0 {
		roots = own
	}
	var found []Finding
	if missing := lacking(own, roots); len(missing) > 0 {
		found = append(found, warned("wait: nodes get new roots within seconds of the controller; is every node connected?",
			"node %s: the proxy does not trust %s yet", node, strings.Join(missing, ", ")))
	}
	who := map[leafProblem][]string{}
	for _, id := range have.Identities {
		name := id.Namespace + "/" + id.Account
		if id.Account == "" {
			name = "the proxy itself"
		}
		if p := problemOf(id.Chain, roots, now); p != (leafProblem{}) {
			who[p] = append(who[p], name)
		}
	}
	problems := slices.SortedFunc(maps.Keys(who), func(a, b leafProblem) int { return strings.Compare(a.text, b.text) })
	for _, p := range problems {
		names := who[p]
		if len(names) > 4 {
			names = append(names[:4:4], fmt.Sprintf("and %d more", len(names)-4))
		}
		f := failed(p.hint, "node %s: %s (%s)", node, p.text, strings.Join(names, ", "))
		f.Warn = p.warn
		found = append(found, f)
	}
	return found
}

// lacking are the roots that are not among those of a node.
func lacking(own, roots []*x509.Certificate) []string {
	var missing []string
	for _, r := range roots {
		if !slices.ContainsFunc(own, r.Equal) {
			missing = append(missing, "the root "+subject(r))
		}
	}
	return missing
}

// leafProblem is what is wrong with a certificate of a node.
type leafProblem struct {
	text, hint string
	warn       bool
}

func problemOf(chain string, roots []*x509.Certificate, now time.Time) leafProblem {
	certs, err := parsePEM([]byte(chain))
	if err != nil {
		return leafProblem{text: fmt.Sprintf("a certificate cannot be read: %v", err), hint: "restart the node's keeper"}
	}
	leaf := certs[0]
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	renewal := "the keeper renews it from the controller: see the checks of the controller and of the issuer"
	switch {
	case now.After(leaf.NotAfter):
		return leafProblem{text: "the certificate has expired", hint: renewal}
	case now.Before(leaf.NotBefore):
		return leafProblem{text: "the certificate begins in the future, at " + date(leaf.NotBefore) + ": clocks differ", hint: clockHint}
	}
	var unknown x509.UnknownAuthorityError
	if err := vouches(roots, certs, now); errors.As(err, &unknown) {
		return leafProblem{text: "no root vouches for the certificate", hint: "was the issuer replaced before its root was added? Add the old root again until every certificate is renewed"}
	} else if err != nil {
		return leafProblem{text: fmt.Sprintf("the certificate is not trusted: %v", err), hint: renewal}
	}
	if now.After(leaf.NotBefore.Add(life * 3 / 4)) {
		return leafProblem{text: "the certificate was to be renewed at half of its life, and expires at " + date(leaf.NotAfter), hint: renewal, warn: true}
	}
	return leafProblem{}
}
