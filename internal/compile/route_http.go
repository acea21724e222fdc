package compile

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// readHTTP reads the rules of an HTTPRoute. Without rules it has one that everything matches, and without matches a
// rule has one; so says the API's schema.
func (r *route) readHTTP(spec *gatewayv1.HTTPRouteSpec) error {
	r.hosts = len(spec.Hostnames) > 0
	rules := spec.Rules
	if len(rules) == 0 {
		rules = []gatewayv1.HTTPRouteRule{{}}
	}
	if err := atMost("rules", len(rules), maxRules); err != nil {
		return err
	}
	for i := range rules {
		if err := r.readHTTPRule(i, &rules[i]); err != nil {
			return fmt.Errorf("rules[%d].%w", i, err)
		}
	}
	return atMost("matches of all rules", len(r.matches), maxMatches)
}

func (r *route) readHTTPRule(index int, from *gatewayv1.HTTPRouteRule) (err error) {
	x := r.newRule(index)
	if x.Title, err = title(from.Name); err != nil {
		return err
	}
	switch {
	case from.Retry != nil:
		return errors.New("retry: not supported; a TrafficPolicy for this rule has retries")
	case from.SessionPersistence != nil:
		return errors.New("sessionPersistence: not supported; a TrafficPolicy for this rule has balancing by cookie or header")
	}
	prefix, err := r.readHTTPMatches(index, from.Matches)
	if err != nil {
		return err
	}
	f, err := r.readFilters(index, "filters", from.Filters, prefix)
	if err != nil {
		return err
	}
	if f.Redirect != nil && len(from.BackendRefs) > 0 {
		return fmt.Errorf("filters: %w", incompatible("RequestRedirect answers by itself: a rule with it has no backendRefs"))
	}
	x.Filters, x.mirrors = f.Filters, f.mirrors
	if err := atMost("backendRefs", len(from.BackendRefs), maxItems); err != nil {
		return err
	}
	for i, b := range from.BackendRefs {
		f, err := r.readFilters(index, fmt.Sprintf("backendRefs[%d].filters", i), b.Filters, prefix)
		if err != nil {
			return err
		}
		if err := r.readBackend(&x, b.BackendRef, f); err != nil {
			return err
		}
	}
	if err := x.readTimeouts(from.Timeouts); err != nil {
		return fmt.Errorf("timeouts.%w", err)
	}
	r.rules = append(r.rules, x)
	return nil
}

func (r *route) newRule(index int) rule {
	return rule{Rule: mesh.Rule{Kind: r.kind, Route: mesh.Name{Namespace: r.key.Namespace, Name: r.key.Name}, Index: index}}
}

// readHTTPMatches adds a rule's matches. It tells whether there is just one, of a prefix, which can be replaced.
func (r *route) readHTTPMatches(index int, from []gatewayv1.HTTPRouteMatch) (prefix bool, err error) {
	if len(from) == 0 {
		from = []gatewayv1.HTTPRouteMatch{{}}
	}
	if err := atMost("matches", len(from), maxPerRule); err != nil {
		return false, err
	}
	for i, m := range from {
		at := func(part string, err error) error { return fmt.Errorf("matches[%d].%s: %w", i, part, err) }
		x := match{rule: index}
		if x.Path, err = readPath(m.Path); err != nil {
			return false, at("path", err)
		}
		if m.Method != nil {
			if !methods[*m.Method] {
				return false, at("method", fmt.Errorf("%.100q is not supported", *m.Method))
			}
			x.Method = string(*m.Method)
		}
		var headers, query []fieldMatch
		for _, h := range m.Headers {
			headers = append(headers, fieldMatch{deref((*string)(h.Type)), string(h.Name), h.Value})
		}
		for _, q := range m.QueryParams {
			query = append(query, fieldMatch{deref((*string)(q.Type)), string(q.Name), q.Value})
		}
		if x.Headers, err = readFields("headers", headers, true, maxValue); err != nil {
			return false, fmt.Errorf("matches[%d].%w", i, err)
		}
		if x.Query, err = readFields("queryParams", query, false, maxPath); err != nil {
			return false, fmt.Errorf("matches[%d].%w", i, err)
		}
		x.rank = rankHTTP(x.Match)
		r.matches = append(r.matches, x)
		prefix = len(from) == 1 && x.Path.Kind == mesh.PathPrefix
	}
	return prefix, nil
}

var gatewayDuration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// readDuration reads a duration of GEP-2257.
func readDuration(d gatewayv1.Duration) (time.Duration, error) {
	if !gatewayDuration.MatchString(string(d)) {
		return 0, fmt.Errorf("%.100q is not a duration: one to four numbers of at most five digits, each with h, m, s or ms", d)
	}
	return time.ParseDuration(string(d))
}

func (x *rule) readTimeouts(t *gatewayv1.HTTPRouteTimeouts) (err error) {
	if t == nil {
		return nil
	}
	if t.Request != nil {
		x.statesRequest = true
		if x.Request, err = readDuration(*t.Request); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	if t.BackendRequest != nil {
		x.statesAttempt = true
		if x.Attempt, err = readDuration(*t.BackendRequest); err != nil {
			return fmt.Errorf("backendRequest: %w", err)
		}
	}
	if x.Request != 0 && x.Attempt > x.Request {
		return fmt.Errorf("backendRequest: %v is longer than request, %v", x.Attempt, x.Request)
	}
	return nil
}
