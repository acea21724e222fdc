package compile

import (
	"errors"
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

// filters are a rule's or a backend's, with the references of the mirrors among them.
type filters struct {
	mesh.Filters
	mirrors []ref
}

// incompatible is why filters cannot be used together.
type incompatible string

func (e incompatible) Error() string { return string(e) }

// readFilters reads filters that stand at a place in a rule. Each kind may be there once, mirrors more often. With
// prefix the rule has just one match, of a prefix, which can be replaced.
func (r *route) readFilters(rule int, at string, from []gatewayv1.HTTPRouteFilter, prefix bool) (out filters, err error) {
	if err := atMost(at, len(from), maxItems); err != nil {
		return out, err
	}
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i := range from {
		f := &from[i]
		where := fmt.Sprintf("%s[%d]", at, i)
		if seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			return out, fmt.Errorf("%s: %w", where, incompatible(fmt.Sprintf("%s is there already", f.Type)))
		}
		seen[f.Type] = true
		if f.Type == gatewayv1.HTTPRouteFilterRequestMirror {
			err = r.readMirror(&out, rule, where, f.RequestMirror)
		} else {
			err = r.readFilter(&out, f, prefix)
		}
		if err != nil {
			return out, fmt.Errorf("%s: %w", where, err)
		}
	}
	if out.Redirect != nil && out.Rewrite != nil {
		return out, fmt.Errorf("%s: %w", at, incompatible("RequestRedirect and URLRewrite exclude each other"))
	}
	return out, nil
}

func (r *route) readFilter(out *filters, f *gatewayv1.HTTPRouteFilter, prefix bool) (err error) {
	missing := errors.New("what it is to do is missing")
	http := r.kind == mesh.HTTPRoute
	switch {
	case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
		out.Request, err = readEdit(f.RequestHeaderModifier)
	case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
		out.Response, err = readEdit(f.ResponseHeaderModifier)
	case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && http && f.RequestRedirect != nil:
		out.Redirect, err = readRedirect(f.RequestRedirect, prefix)
	case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && http && f.URLRewrite != nil:
		out.Rewrite, err = readRewrite(f.URLRewrite, prefix)
	case f.Type == gatewayv1.HTTPRouteFilterCORS && http && f.CORS != nil:
		out.CORS, err = readCORS(f.CORS)
	case knownFilter(f.Type, http):
		err = missing
	default:
		return fmt.Errorf("filter of type %.100q is not supported", f.Type)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Type, err)
	}
	return nil
}

func knownFilter(t gatewayv1.HTTPRouteFilterType, http bool) bool {
	switch t {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier, gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		return true
	case gatewayv1.HTTPRouteFilterRequestRedirect, gatewayv1.HTTPRouteFilterURLRewrite, gatewayv1.HTTPRouteFilterCORS:
		return http
	}
	return false
}

func (r *route) readMirror(out *filters, rule int, at string, m *gatewayv1.HTTPRequestMirrorFilter) error {
	if m == nil {
		return errors.New("RequestMirror: what it is to do is missing")
	}
	to, err := r.readRef(rule, at+".requestMirror.backendRef", m.BackendRef)
	if err != nil {
		return fmt.Errorf("RequestMirror: backendRef.%w", err)
	}
	x := mesh.Mirror{Backend: mesh.Backend{Service: to.service, Port: to.port, Weight: defaultWeight}, Part: 100, Of: 100}
	switch {
	case m.Percent != nil && m.Fraction != nil:
		return errors.New("RequestMirror: percent and fraction exclude each other")
	case m.Percent != nil:
		if *m.Percent < 0 || *m.Percent > 100 {
			return fmt.Errorf("RequestMirror: percent: %d", *m.Percent)
		}
		x.Part = uint32(*m.Percent)
	case m.Fraction != nil:
		of := int32(100)
		if m.Fraction.Denominator != nil {
			of = *m.Fraction.Denominator
		}
		if of < 1 || m.Fraction.Numerator < 0 || m.Fraction.Numerator > of {
			return fmt.Errorf("RequestMirror: fraction: %d of %d", m.Fraction.Numerator, of)
		}
		x.Part, x.Of = uint32(m.Fraction.Numerator), uint32(of)
	}
	out.Mirrors, out.mirrors = append(out.Mirrors, x), append(out.mirrors, to)
	return nil
}

// framing are the fields that say where a message ends, who it is for and what becomes of its connection. A route that
// could change them could make two requests of one.
var framing = map[string]string{
	"content-length": "", "transfer-encoding": "", "connection": "", "keep-alive": "", "proxy-connection": "", "te": "",
	"trailer": "", "upgrade": "", "host": "; URLRewrite changes the host name",
}

// readEdit reads a header modifier. No field may be in two of its lists; of several with one name in one list the
// first counts.
func readEdit(f *gatewayv1.HTTPHeaderFilter) (*mesh.FieldEdit, error) {
	out := &mesh.FieldEdit{}
	in := map[string]string{} // which list has a name
	take := func(list, name string) (fresh bool, err error) {
		if err := checkField(name); err != nil {
			return false, fmt.Errorf("%s: %w", list, err)
		}
		lower := strings.ToLower(name)
		if hint, no := framing[lower]; no {
			return false, fmt.Errorf("%s: %s frames the message, and is not changed%s", list, name, hint)
		}
		if strings.HasPrefix(lower, "fairlead-") {
			return false, fmt.Errorf("%s: %s is between proxies of the mesh, and is not changed", list, name)
		}
		if other, there := in[lower]; there && other != list {
			return false, fmt.Errorf("%s: %s is in %s already", list, name, other)
		}
		_, twice := in[lower]
		in[lower] = list
		return !twice, nil
	}
	values := func(list string, from []gatewayv1.HTTPHeader) (out []mesh.FieldValue, err error) {
		if err := atMost(list, len(from), maxItems); err != nil {
			return nil, err
		}
		for _, h := range from {
			fresh, err := take(list, string(h.Name))
			if err != nil {
				return nil, err
			}
			if err := checkValue(h.Value); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", list, h.Name, err)
			}
			if fresh {
				out = append(out, mesh.FieldValue{Name: string(h.Name), Value: h.Value})
			}
		}
		return out, nil
	}
	var err error
	if out.Set, err = values("set", f.Set); err != nil {
		return nil, err
	}
	if out.Add, err = values("add", f.Add); err != nil {
		return nil, err
	}
	if err := atMost("remove", len(f.Remove), maxItems); err != nil {
		return nil, err
	}
	for _, name := range f.Remove {
		fresh, err := take("remove", name)
		if err != nil {
			return nil, err
		}
		if fresh {
			out.Remove = append(out.Remove, name)
		}
	}
	return out, nil
}

// checkValue holds a field's value to what can be sent.
func checkValue(v string) error {
	if v == "" || len(v) > maxValue {
		return fmt.Errorf("value of %d bytes, from 1 to %d are taken", len(v), maxValue)
	}
	for i := range len(v) {
		if c := v[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			return fmt.Errorf("value %.300q has characters that are not printable ASCII", v)
		}
	}
	if v[0] == ' ' || v[0] == '\t' || v[len(v)-1] == ' ' || v[len(v)-1] == '\t' {
		return fmt.Errorf("value %.300q begins or ends with a space", v)
	}
	return nil
}
