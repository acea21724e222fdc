package compile

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// route is one route in force.
type route struct {
	head
	content
	resolved map[mesh.Name]resolution // by parent
}

// head is what a route says before its rules.
type head struct {
	key        Key
	uid        string
	generation int64
	refs       []gatewayv1.ParentReference // those to Services, as they stand
}

// content is what a route's text comes to, whatever else there is.
type content struct {
	kind    mesh.RouteKind
	created time.Time
	parents []parent
	rules   []rule
	matches []match // those of the first rule first
	hosts   bool    // it has hostnames, which do not count
	hint    string  // about a parent that is perhaps meant to be a Service
}

// rule is a rule whose references are not resolved.
type rule struct {
	mesh.Rule
	refs []ref // of Rule.Backends, one for one
	// mirrors are those of Filters.Mirrors, and backendMirrors of each backend's.
	mirrors        []ref
	backendMirrors [][]ref
	// It states a timeout, which may be none: a policy's does not count.
	statesRequest, statesAttempt bool
}

// match is a match of a rule, with its rank: of two matches the one with the greater rank is asked first.
type match struct {
	mesh.Match
	rule int
	rank [5]int
}

// refused is a version of a route that is not in force.
type refused struct {
	head
	err error
}

// The limits of the API, for routes that no API server has checked.
const (
	maxParents   = 32
	maxRules     = 16
	maxPerRule   = 64 // matches
	maxMatches   = 128
	maxItems     = 16 // filters, backends, header fields
	maxCORS      = 64
	maxHostnames = 1024
	maxPath      = 1024
	maxValue     = 4096
	maxNameBytes = 256
)

func atMost(what string, n, most int) error {
	if n > most {
		return fmt.Errorf("%s: %d, at most %d are allowed", what, n, most)
	}
	return nil
}

// readRoute makes sense of a route by itself. On an error the head is there nevertheless.
func readRoute(k Key, object any) (*route, error) {
	o := object.(metav1.Object)
	r := &route{
		head:    head{key: k, uid: string(o.GetUID()), generation: o.GetGeneration()},
		content: content{kind: routeKinds[k.Kind], created: o.GetCreationTimestamp().Time},
	}
	parents, rules := parts(object)
	if err := r.readParents(parents); err != nil {
		return r, err
	}
	if len(r.parents) == 0 {
		return r, nil // what other controllers do with it need make no sense here
	}
	if err := rules(r); err != nil {
		return r, err
	}
	return r, r.checkTitles()
}

// parts are the parents of a route, and what reads its rules.
func parts(object any) ([]gatewayv1.ParentReference, func(*route) error) {
	switch v := object.(type) {
	case *gatewayv1.HTTPRoute:
		return v.Spec.ParentRefs, func(r *route) error { return r.readHTTP(&v.Spec) }
	case *gatewayv1.GRPCRoute:
		return v.Spec.ParentRefs, func(r *route) error { return r.readGRPC(&v.Spec) }
	case *gatewayv1.TLSRoute:
		return v.Spec.ParentRefs, func(r *route) error { return r.readTLS(&v.Spec) }
	case *gatewayv1.TCPRoute:
		return v.Spec.ParentRefs, func(r *route) error { return r.readTCP(&v.Spec) }
	}
	return nil, nil
}

// title names a rule; no two rules of a route have the same name.
func title(name *gatewayv1.SectionName) (string, error) {
	if name == nil {
		return "", nil
	}
	if len(*name) > 253 || !dnsSubdomain.MatchString(string(*name)) {
		return "", fmt.Errorf("name %.300q is not a DNS name", *name)
	}
	return string(*name), nil
}

func (r *route) checkTitles() error {
	seen := map[string]int{}
	for i, x := range r.rules {
		if first, twice := seen[x.Title]; twice && x.Title != "" {
			return fmt.Errorf("rules[%d].name: rules[%d] is named %q already", i, first, x.Title)
		}
		seen[x.Title] = i
	}
	return nil
}

// backends are the Services that the route refers to, mirrors among them.
func (r *route) backends() []mesh.Name {
	var out []mesh.Name
	add := func(refs []ref) {
		for _, x := range refs {
			if x.wrong == "" {
				out = append(out, x.service)
			}
		}
	}
	for _, x := range r.rules {
		add(x.refs)
		add(x.mirrors)
		for _, m := range x.backendMirrors {
			add(m)
		}
	}
	return out
}
