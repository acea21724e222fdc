package compile

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// The limits of the schema, for objects that no API server has checked, and of what they come to.
const (
	maxAuthRules    = 16
	maxSources      = 8
	maxOperations   = 8
	maxPeerValues   = 32
	maxOpValues     = 9
	maxAuthzMatches = 4096 // of a policy, when methods, paths and a route's matches are multiplied
)

var identityMatch = regexp.MustCompile(`^spiffe://[a-z0-9._-]+/([A-Za-z0-9._-]+/)*([A-Za-z0-9._-]+[*]?|[*])$`)

// readAuthorization makes sense of a policy by itself. On an error the target and the action are there, as far as they
// could be read.
func readAuthorization(k Key, spec *v1alpha1.AuthorizationPolicySpec) (authzContent, error) {
	var out authzContent
	actionErr := out.readAction(spec.Action)
	if err := out.readTarget(k, &spec.Target); err != nil {
		return authzContent{action: out.action}, fmt.Errorf("target.%w", err)
	}
	if actionErr != nil {
		return out, actionErr
	}
	if out.action != mesh.Allow && len(spec.Rules) == 0 {
		return out, errors.New("rules: without them nothing is matched")
	}
	if err := atMost("rules", len(spec.Rules), maxAuthRules); err != nil {
		return out, err
	}
	total := 0
	var rules []mesh.AuthRule
	for i := range spec.Rules {
		x, err := readAuthRule(k, &spec.Rules[i])
		if err != nil {
			return out, fmt.Errorf("rules[%d]%w", i, err)
		}
		for _, o := range x.To {
			total += len(o.Matches)
		}
		rules = append(rules, x)
	}
	out.rules = rules
	return out, atMost("rules: methods times paths", total, maxAuthzMatches)
}

func (c *authzContent) readAction(a v1alpha1.AuthorizationAction) error {
	switch a {
	case v1alpha1.ActionAllow:
		c.action = mesh.Allow
	case v1alpha1.ActionDeny:
		c.action = mesh.Deny
	case v1alpha1.ActionAudit:
		c.action = mesh.Audit
	default:
		return fmt.Errorf("action: %.100q is neither ALLOW nor DENY nor AUDIT", a)
	}
	return nil
}

func (c *authzContent) readTarget(k Key, from *v1alpha1.AuthorizationTarget) error {
	name := string(deref(from.Name))
	isRoute := from.Kind == v1alpha1.TargetHTTPRoute || from.Kind == v1alpha1.TargetGRPCRoute
	named := isRoute || from.Kind == v1alpha1.TargetService
	switch {
	case !named && from.Kind != v1alpha1.TargetMesh && from.Kind != v1alpha1.TargetNamespace && from.Kind != v1alpha1.TargetPods:
		return fmt.Errorf("kind: %.100q is not known", from.Kind)
	case named != (name != ""):
		return fmt.Errorf("name: kind %s and name %.300q do not go together", from.Kind, name)
	case from.SectionName != nil && !isRoute:
		return fmt.Errorf("sectionName: kind %s has no rules", from.Kind)
	case (from.Kind == v1alpha1.TargetPods) != (from.Selector != nil):
		return fmt.Errorf("selector: it belongs to kind Pods, which needs one, and kind is %s", from.Kind)
	case isRoute && len(from.Ports) > 0:
		return errors.New("ports: a route has those of its Service")
	}
	if err := atMost("ports", len(from.Ports), maxItems); err != nil {
		return err
	}
	for _, p := range from.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("ports: %d is not a port", p)
		}
		c.ports = append(c.ports, uint16(p))
	}
	slices.Sort(c.ports)
	if named {
		c.target = target{Key{Kind: Kind(from.Kind), Namespace: k.Namespace, Name: name}, string(deref(from.SectionName))}
		if err := checkName(c.target.object); err != nil {
			return err
		}
	}
	if from.Selector != nil {
		if len(from.Selector.MatchLabels)+len(from.Selector.MatchExpressions) == 0 {
			return errors.New("selector: an empty one selects every pod, which is kind Namespace")
		}
		s, err := metav1.LabelSelectorAsSelector(from.Selector)
		if err != nil {
			return fmt.Errorf("selector: %w", err)
		}
		c.selector = s
	}
	c.kind = from.Kind
	return nil
}

func readAuthRule(k Key, from *v1alpha1.AuthorizationRule) (mesh.AuthRule, error) {
	var out mesh.AuthRule
	if len(from.From)+len(from.To) == 0 {
		return out, errors.New(": a rule that says nothing would match everything")
	}
	if err := errors.Join(atMost("from", len(from.From), maxSources), atMost("to", len(from.To), maxOperations)); err != nil {
		return out, fmt.Errorf(": %w", err)
	}
	for i := range from.From {
		peers, err := readSource(k, &from.From[i])
		if err != nil {
			return out, fmt.Errorf(".from[%d]: %w", i, err)
		}
		out.From = append(out.From, peers...)
	}
	for i := range from.To {
		matches, err := readOperation(&from.To[i])
		if err != nil {
			return out, fmt.Errorf(".to[%d]: %w", i, err)
		}
		out.To = append(out.To, mesh.Operation{Matches: matches})
	}
	return out, nil
}

// readSource makes a peer; several if there are ranges of addresses with exceptions, which are each range's own.
func readSource(k Key, from *v1alpha1.AuthorizationSource) ([]mesh.Peer, error) {
	var out mesh.Peer
	values := max(len(from.Identities), len(from.ServiceAccounts), len(from.Namespaces), len(from.IPBlocks))
	if err := atMost("values of one field", values, maxPeerValues); err != nil {
		return nil, err
	}
	for _, id := range from.Identities {
		if len(id) > maxIdentity || !identityMatch.MatchString(string(id)) {
			return nil, fmt.Errorf("identities: %.300q is neither a SPIFFE ID nor the beginning of one and *", id)
		}
		out.IDs = append(out.IDs, string(id))
	}
	for _, a := range from.ServiceAccounts {
		x := mesh.Account{Namespace: k.Namespace, Name: string(a.Name)}
		if a.Namespace != nil {
			x.Namespace = string(*a.Namespace)
		}
		if err := checkName(Key{Kind: ServiceAccount, Namespace: x.Namespace, Name: x.Name}); err != nil {
			return nil, fmt.Errorf("serviceAccounts: %w", err)
		}
		out.Accounts = append(out.Accounts, x)
	}
	for _, n := range from.Namespaces {
		if len(n) > 63 || !dnsLabel.MatchString(string(n)) {
			return nil, fmt.Errorf("namespaces: %.300q is not a DNS label", n)
		}
		out.Namespaces = append(out.Namespaces, string(n))
	}
	if a := from.Authentication; a != nil {
		out.Authenticated, out.Unauthenticated = *a == "Authenticated", *a == "Unauthenticated"
		if !out.Authenticated && !out.Unauthenticated {
			return nil, fmt.Errorf("authentication: %.100q is neither Authenticated nor Unauthenticated", *a)
		}
	}
	switch identified := len(out.IDs)+len(out.Accounts)+len(out.Namespaces) > 0; {
	case out.Unauthenticated && identified:
		return nil, errors.New("an unauthenticated client has no identity: it would never match")
	case values == 0 && from.Authentication == nil:
		return nil, errors.New("it says nothing")
	}
	return readBlocks(out, from.IPBlocks)
}

func readBlocks(peer mesh.Peer, from []v1alpha1.IPBlock) ([]mesh.Peer, error) {
	if len(from) == 0 {
		return []mesh.Peer{peer}, nil
	}
	plain := peer
	var out []mesh.Peer
	for i, b := range from {
		block, err := netip.ParsePrefix(b.CIDR)
		if err != nil {
			return nil, fmt.Errorf("ipBlocks[%d].cidr: %w", i, err)
		}
		if err := atMost("except", len(b.Except), maxItems); err != nil {
			return nil, fmt.Errorf("ipBlocks[%d].%w", i, err)
		}
		block = block.Masked()
		if len(b.Except) == 0 {
			plain.CIDRs = append(plain.CIDRs, block)
			continue
		}
		own := peer
		own.CIDRs = []netip.Prefix{block}
		for _, text := range b.Except {
			e, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("ipBlocks[%d].except: %w", i, err)
			}
			if e.Bits() < block.Bits() || !block.Contains(e.Addr()) {
				return nil, fmt.Errorf("ipBlocks[%d].except: %s is not within %s", i, e, block)
			}
			own.Except = append(own.Except, e.Masked())
		}
		out = append(out, own)
	}
	if len(plain.CIDRs) > 0 {
		out = append(out, plain)
	}
	return out, nil
}

// readOperation multiplies methods and paths.
func readOperation(from *v1alpha1.AuthorizationOperation) ([]mesh.Match, error) {
	if err := atMost("values of one field", max(len(from.Methods), len(from.Paths), len(from.Headers), len(from.GRPC)), maxOpValues); err != nil {
		return nil, err
	}
	switch request := len(from.Methods)+len(from.Paths) > 0; {
	case !request && len(from.Headers)+len(from.GRPC) == 0:
		return nil, errors.New("it says nothing")
	case request && len(from.GRPC) > 0:
		return nil, errors.New("grpc goes with headers only")
	}
	var fields []fieldMatch
	for _, h := range from.Headers {
		fields = append(fields, fieldMatch{string(deref(h.Type)), string(h.Name), h.Value})
	}
	headers, err := readFields("headers", fields, true, maxValue)
	if err != nil {
		return nil, err
	}
	var paths []mesh.PathMatch
	for i := range from.Paths {
		p, err := readPath(&from.Paths[i])
		if err != nil {
			return nil, fmt.Errorf("paths[%d]: %w", i, err)
		}
		paths = append(paths, p)
	}
	for i := range from.GRPC {
		p, err := readCall(&from.GRPC[i])
		if err != nil {
			return nil, fmt.Errorf("grpc[%d]: %w", i, err)
		}
		paths = append(paths, p)
	}
	if len(paths) == 0 {
		paths = []mesh.PathMatch{{}}
	}
	requests := from.Methods
	if len(requests) == 0 {
		requests = []gatewayv1.HTTPMethod{""}
	}
	var out []mesh.Match
	for _, p := range paths {
		for _, m := range requests {
			if m != "" && !methods[m] {
				return nil, fmt.Errorf("methods: %.100q is not supported", m)
			}
			out = append(out, mesh.Match{Path: p, Method: string(m), Headers: headers})
		}
	}
	return out, nil
}
