package compile

import (
	"errors"
	"fmt"
	"regexp"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

var (
	grpcService = regexp.MustCompile(`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`)
	grpcMethod  = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
)

// readGRPC reads the rules of a GRPCRoute. A rule without matches matches every call.
func (r *route) readGRPC(spec *gatewayv1.GRPCRouteSpec) error {
	r.hosts = len(spec.Hostnames) > 0
	if err := atMost("rules", len(spec.Rules), maxRules); err != nil {
		return err
	}
	for i := range spec.Rules {
		if err := r.readGRPCRule(i, &spec.Rules[i]); err != nil {
			return fmt.Errorf("rules[%d].%w", i, err)
		}
	}
	return atMost("matches of all rules", len(r.matches), maxMatches)
}

func (r *route) readGRPCRule(index int, from *gatewayv1.GRPCRouteRule) (err error) {
	x := r.newRule(index)
	if x.Title, err = title(from.Name); err != nil {
		return err
	}
	if from.SessionPersistence != nil {
		return errors.New("sessionPersistence: not supported; a TrafficPolicy for this rule has balancing by cookie or header")
	}
	if err := r.readGRPCMatches(index, from.Matches); err != nil {
		return err
	}
	f, err := r.readFilters(index, "filters", httpFilters(from.Filters), false)
	if err != nil {
		return err
	}
	x.Filters, x.mirrors = f.Filters, f.mirrors
	if err := atMost("backendRefs", len(from.BackendRefs), maxItems); err != nil {
		return err
	}
	for i, b := range from.BackendRefs {
		f, err := r.readFilters(index, fmt.Sprintf("backendRefs[%d].filters", i), httpFilters(b.Filters), false)
		if err != nil {
			return err
		}
		if err := r.readBackend(&x, b.BackendRef, f); err != nil {
			return err
		}
	}
	r.rules = append(r.rules, x)
	return nil
}

// httpFilters are the filters of a GRPCRoute as those of an HTTPRoute, which has more kinds.
func httpFilters(from []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	out := make([]gatewayv1.HTTPRouteFilter, 0, len(from))
	for _, f := range from {
		out = append(out, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier, RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}

func (r *route) readGRPCMatches(index int, from []gatewayv1.GRPCRouteMatch) error {
	if len(from) == 0 {
		from = []gatewayv1.GRPCRouteMatch{{}}
	}
	if err := atMost("matches", len(from), maxPerRule); err != nil {
		return err
	}
	for i, m := range from {
		x := match{rule: index}
		var fields []fieldMatch
		for _, h := range m.Headers {
			fields = append(fields, fieldMatch{deref((*string)(h.Type)), string(h.Name), h.Value})
		}
		var err error
		if x.Headers, err = readFields("headers", fields, true, maxValue); err != nil {
			return fmt.Errorf("matches[%d].%w", i, err)
		}
		x.rank = rankGRPC("", "", false, len(x.Headers))
		if m.Method != nil {
			if x.Path, err = readCall(m.Method); err != nil {
				return fmt.Errorf("matches[%d].method: %w", i, err)
			}
			regex := deref((*string)(m.Method.Type)) == string(gatewayv1.GRPCMethodMatchRegularExpression)
			x.rank = rankGRPC(deref(m.Method.Service), deref(m.Method.Method), regex, len(x.Headers))
		}
		r.matches = append(r.matches, x)
	}
	return nil
}

// readCall makes a match of the path out of one of service and method: /service/method.
func readCall(m *gatewayv1.GRPCMethodMatch) (mesh.PathMatch, error) {
	service, method := deref(m.Service), deref(m.Method)
	if service == "" && method == "" {
		return mesh.PathMatch{}, errors.New("neither service nor method")
	}
	switch kind := deref((*string)(m.Type)); kind {
	case "", string(gatewayv1.GRPCMethodMatchExact):
		if len(service) > maxPath || service != "" && !grpcService.MatchString(service) {
			return mesh.PathMatch{}, fmt.Errorf("service %.300q is not a name of one", service)
		}
		if len(method) > maxPath || method != "" && !grpcMethod.MatchString(method) {
			return mesh.PathMatch{}, fmt.Errorf("method %.300q is not a name of one", method)
		}
		switch {
		case method == "":
			return mesh.PathMatch{Kind: mesh.PathPrefix, Value: "/" + service}, nil
		case service == "":
			return mesh.PathMatch{Kind: mesh.PathRegex, Value: "/[^/]+/" + method}, nil
		}
		return mesh.PathMatch{Kind: mesh.PathExact, Value: "/" + service + "/" + method}, nil
	case string(gatewayv1.GRPCMethodMatchRegularExpression):
		path := ""
		for _, part := range []string{service, method} {
			if err := checkRegex(part, maxPath); err != nil {
				return mesh.PathMatch{}, err
			}
			if part == "" {
				part = "[^/]+"
			}
			path += "/(?:" + part + ")"
		}
		return mesh.PathMatch{Kind: mesh.PathRegex, Value: path}, checkRegex(path, 2*maxPath+16)
	default:
		return mesh.PathMatch{}, fmt.Errorf("type %.100q is not supported", kind)
	}
}
