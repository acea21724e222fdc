package compile

import (
	"errors"
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// readTLS reads a TLSRoute: one rule, for the host names that a ClientHello may ask for.
func (r *route) readTLS(spec *gatewayv1.TLSRouteSpec) error {
	if len(spec.Rules) != 1 {
		return fmt.Errorf("rules: %d, a TLSRoute has one", len(spec.Rules))
	}
	if len(spec.Hostnames) == 0 {
		return errors.New("hostnames: none, a TLSRoute needs one")
	}
	if err := atMost("hostnames", len(spec.Hostnames), maxHostnames); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, h := range spec.Hostnames {
		name := string(h)
		if rest := strings.TrimPrefix(name, "*."); len(name) > 253 || !dnsSubdomain.MatchString(rest) {
			return fmt.Errorf("hostnames[%d]: %.300q is not a host name", i, name)
		}
		if !seen[name] {
			seen[name] = true
			r.matches = append(r.matches, match{Match: mesh.Match{SNI: name}, rank: rankTLS(name)})
		}
	}
	return r.readStream(spec.Rules[0].Name, spec.Rules[0].BackendRefs)
}

// readTCP reads a TCPRoute: one rule, for every connection.
func (r *route) readTCP(spec *gatewayv1.TCPRouteSpec) error {
	if len(spec.Rules) != 1 {
		return fmt.Errorf("rules: %d, a TCPRoute has one", len(spec.Rules))
	}
	r.matches = []match{{}}
	return r.readStream(spec.Rules[0].Name, spec.Rules[0].BackendRefs)
}

func (r *route) readStream(name *gatewayv1.SectionName, backends []gatewayv1.BackendRef) (err error) {
	x := r.newRule(0)
	if x.Title, err = title(name); err != nil {
		return fmt.Errorf("rules[0].%w", err)
	}
	if len(backends) == 0 {
		return fmt.Errorf("rules[0].backendRefs: none, a %s needs one", r.key.Kind)
	}
	if err := atMost("rules[0].backendRefs", len(backends), maxItems); err != nil {
		return err
	}
	for _, b := range backends {
		if err := r.readBackend(&x, b, filters{}); err != nil {
			return fmt.Errorf("rules[0].%w", err)
		}
	}
	r.rules = append(r.rules, x)
	return nil
}
