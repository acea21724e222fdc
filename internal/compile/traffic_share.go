package compile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

var algorithms = map[string]mesh.Algorithm{
	"PeakEWMA": mesh.PeakEWMA, "LeastRequest": mesh.LeastRequest, "RoundRobin": mesh.RoundRobin, "ConsistentHash": mesh.ConsistentHash,
}

func (r *reader) balance(from *v1alpha1.LoadBalancing) *mesh.Balance {
	if from == nil {
		return nil
	}
	out := &mesh.Balance{SlowStart: r.duration("loadBalancing.slowStart", from.SlowStart, 0, 0, time.Hour)}
	if from.Algorithm != nil {
		a, known := algorithms[*from.Algorithm]
		if !known {
			r.fail("loadBalancing.algorithm", fmt.Errorf("%.100q is not known", *from.Algorithm))
		}
		out.Algorithm = a
	}
	if (out.Algorithm == mesh.ConsistentHash) != (from.HashOn != nil) {
		r.fail("loadBalancing", errors.New("hashOn and algorithm ConsistentHash go together"))
	}
	if from.HashOn != nil {
		r.hash(out, from.HashOn)
	}
	if z := from.ZonePreference; z != nil {
		if *z != "PreferSameZone" && *z != "None" {
			r.fail("loadBalancing.zonePreference", fmt.Errorf("%.100q is neither PreferSameZone nor None", *z))
		}
		out.Zone = *z == "PreferSameZone"
	}
	if from.Algorithm == nil && from.SlowStart == nil && from.ZonePreference == nil {
		r.fail("loadBalancing", errors.New("it says nothing"))
	}
	return out
}

func (r *reader) hash(out *mesh.Balance, from *v1alpha1.HashOn) {
	name := string(deref(from.Name))
	switch from.Type {
	case "Source":
		if name != "" {
			r.fail("loadBalancing.hashOn.name", errors.New("type Source has none"))
		}
		return
	case "Header":
		out.HashOn, out.HashName = mesh.HashHeader, strings.ToLower(name)
	case "Cookie":
		out.HashOn, out.HashName = mesh.HashCookie, name
	default:
		r.fail("loadBalancing.hashOn.type", fmt.Errorf("%.100q is neither Header nor Cookie nor Source", from.Type))
	}
	r.fail("loadBalancing.hashOn", checkField(name))
}

func (r *reader) limit(from *v1alpha1.RateLimit) *mesh.Limit {
	if from == nil {
		return nil
	}
	out := &mesh.Limit{Total: r.rate("rateLimit.total", from.Total), Each: r.rate("rateLimit.perClient", from.PerClient)}
	if from.Total == nil && from.PerClient == nil && len(from.Overrides) == 0 {
		r.fail("rateLimit", errors.New("there is none"))
	}
	r.fail("rateLimit", atMost("overrides", len(from.Overrides), maxOverrides))
	if r.err != nil {
		return nil
	}
	for i := range from.Overrides {
		at := fmt.Sprintf("rateLimit.overrides[%d]", i)
		o := &from.Overrides[i]
		rate := r.rate(at, &o.Rate)
		if len(o.Identities) == 0 {
			r.fail(at, errors.New("identities: there are none"))
		}
		r.fail(at, atMost("identities", len(o.Identities), maxOverrides))
		for _, id := range o.Identities[:min(len(o.Identities), maxOverrides)] {
			if len(id) > maxIdentity || !wholeIdentity.MatchString(string(id)) {
				r.fail(at, fmt.Errorf("identities: %.300q is not a SPIFFE ID", id))
			}
			if _, twice := out.Except[string(id)]; twice {
				r.fail(at, fmt.Errorf("identities: %s has a rate already", id))
			}
			if out.Except == nil {
				out.Except = map[string]mesh.Rate{}
			}
			out.Except[string(id)] = rate
		}
	}
	return out
}

const maxIdentity = 256

var wholeIdentity = regexp.MustCompile(`^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$`)

func (r *reader) rate(at string, from *v1alpha1.Rate) mesh.Rate {
	if from == nil {
		return mesh.Rate{}
	}
	n := r.number(at+".requests", &from.Requests, 0, 1, maxCount)
	interval := r.duration(at+".interval", from.Interval, time.Second, time.Second, time.Hour)
	if r.err != nil {
		return mesh.Rate{}
	}
	return mesh.Rate{PerSecond: float64(n) / interval.Seconds(), Burst: r.number(at+".burst", from.Burst, n, 1, maxCount)}
}

func (r *reader) faults(from []v1alpha1.Fault) []mesh.Fault {
	r.fail("faults", atMost("faults", len(from), maxFaults))
	if r.err != nil {
		return nil
	}
	var out []mesh.Fault
	for i := range from {
		out = append(out, r.fault(fmt.Sprintf("faults[%d]", i), &from[i]))
	}
	return out
}

func (r *reader) fault(at string, from *v1alpha1.Fault) mesh.Fault {
	out := mesh.Fault{
		Percent: float64(r.number(at+".percent", from.Percent, 0, 0, 100)),
		Delay:   r.duration(at+".delay", from.Delay, 0, time.Millisecond, 10*time.Minute),
	}
	if (from.Percent == nil) == (from.Fraction == nil) {
		r.fail(at, errors.New("percent or fraction is needed, and only one of them"))
	}
	if f := from.Fraction; f != nil {
		of := int32(100)
		if f.Denominator != nil {
			of = *f.Denominator
		}
		if of < 1 || f.Numerator < 0 || f.Numerator > of {
			r.fail(at+".fraction", fmt.Errorf("%d of %d", f.Numerator, of))
		}
		out.Percent = 100 * float64(f.Numerator) / float64(max(of, 1))
	}
	if from.Delay == nil && from.Abort == nil {
		r.fail(at, errors.New("delay or abort is needed"))
	}
	if a := from.Abort; a != nil {
		out.Abort, out.GRPC = true, defaultAbortGRPC
		out.Status = r.number(at+".abort.httpStatus", a.HTTPStatus, 0, 200, 599)
		if a.GRPCStatus != nil {
			code, err := readGRPCStatus(*a.GRPCStatus)
			r.fail(at+".abort.grpcStatus", err)
			out.GRPC = code
		}
		if a.HTTPStatus == nil && a.GRPCStatus == nil {
			r.fail(at+".abort", errors.New("httpStatus or grpcStatus is needed"))
		}
	}
	matches, err := readMatches(from.Match)
	r.fail(at, err)
	out.Match = matches
	return out
}

// readMatches reads matches as an HTTPRoute has them.
func readMatches(from []gatewayv1.HTTPRouteMatch) ([]mesh.Match, error) {
	if len(from) == 0 {
		return nil, nil
	}
	if err := atMost("match", len(from), maxItems); err != nil {
		return nil, err
	}
	var r route
	if _, err := r.readHTTPMatches(0, from); err != nil {
		return nil, err
	}
	var out []mesh.Match
	for _, m := range r.matches {
		out = append(out, m.Match)
	}
	return out, nil
}
