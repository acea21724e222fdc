package compile

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/mesh"
)

// What holds where a part of a TrafficPolicy does not say.
const (
	defaultRetryLimit    = 1
	defaultBackoff       = 25 * time.Millisecond
	defaultBudgetPercent = 20
	defaultBudgetFloor   = 10
	defaultConsecutive   = 7
	defaultSuccess       = 80
	defaultMinRequests   = 5
	defaultWindow        = 10 * time.Second
	defaultProbationMin  = time.Second
	defaultProbationMax  = time.Minute
	defaultJitter        = 50
	defaultAbortGRPC     = 14 // UNAVAILABLE
)

// The limits of the schema, for objects that no API server has checked.
const (
	maxTargets   = 16
	maxFaults    = 8
	maxOverrides = 32
	maxCount     = 1_000_000
)

var grpcStatuses = []v1alpha1.GRPCStatus{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

func readGRPCStatus(s v1alpha1.GRPCStatus) (uint32, error) {
	if i := slices.Index(grpcStatuses, s); i > 0 {
		return uint32(i), nil
	}
	return 0, fmt.Errorf("%.100q is no gRPC status that is not OK", s)
}

// reader reads fields and keeps the first mistake.
type reader struct{ err error }

func (r *reader) fail(at string, err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%s: %w", at, err)
	}
}

// number is a whole number within bounds, or what holds where none is given.
func (r *reader) number(at string, p *int32, otherwise, least, most int) int {
	if p == nil {
		return otherwise
	}
	if n := int(*p); n < least || n > most {
		r.fail(at, fmt.Errorf("%d, from %d to %d are allowed", n, least, most))
	}
	return int(*p)
}

func (r *reader) duration(at string, p *v1alpha1.Duration, otherwise, least, most time.Duration) time.Duration {
	if p == nil {
		return otherwise
	}
	d, err := readDuration(gatewayv1.Duration(*p))
	r.fail(at, err)
	if err == nil && (d < least || d > most) {
		r.fail(at, fmt.Errorf("%v, from %v to %v are allowed", d, least, most))
	}
	return d
}

func readTraffic(k Key, spec *v1alpha1.TrafficPolicySpec) (trafficContent, error) {
	var out trafficContent
	var err error
	if out.targets, err = readTargets(k, spec.TargetRefs); err != nil {
		return out, err
	}
	r := &reader{}
	out.parts.Retry = r.retries(spec.Retries)
	out.parts.Timeouts = r.timeouts(spec.Timeouts)
	out.parts.Breaker = r.breaker(spec.CircuitBreaker)
	out.parts.Balance = r.balance(spec.LoadBalancing)
	out.zone = spec.LoadBalancing != nil && spec.LoadBalancing.ZonePreference != nil
	out.parts.Limit = r.limit(spec.RateLimit)
	out.parts.Faults = r.faults(spec.Faults)
	if spec.Protocol != nil {
		out.parts.Protocol = r.protocol(*spec.Protocol, out.targets)
	}
	if x, y := out.parts.Retry, out.parts.Timeouts; x != nil && y != nil && y.Request > 0 && x.Attempt > y.Request {
		r.fail("retries.perTryTimeout", errors.New("longer than timeouts.request"))
	}
	if r.err == nil && len(take(&mesh.Traffic{}, &out.parts)) == 0 {
		r.err = errors.New("the policy says nothing")
	}
	return out, r.err
}

func readTargets(k Key, from []v1alpha1.TrafficTarget) ([]target, error) {
	if len(from) == 0 {
		return nil, errors.New("targetRefs: there are none")
	}
	if err := atMost("targetRefs", len(from), maxTargets); err != nil {
		return nil, err
	}
	var out []target
	for i, t := range from {
		x := target{object: Key{Kind: Kind(t.Kind), Namespace: k.Namespace, Name: string(t.Name)}}
		group := gatewayv1.Group(gatewayv1.GroupName)
		if x.object.Kind == Service {
			group = ""
		} else if x.object.Kind != HTTPRoute && x.object.Kind != GRPCRoute {
			return nil, fmt.Errorf("targetRefs[%d].kind: %.100q is neither Service nor HTTPRoute nor GRPCRoute", i, t.Kind)
		}
		if t.Group != nil && *t.Group != group && (group != "" || !core(*t.Group)) {
			return nil, fmt.Errorf("targetRefs[%d].group: %.100q does not go with kind %s", i, *t.Group, t.Kind)
		}
		if err := checkName(x.object); err != nil {
			return nil, fmt.Errorf("targetRefs[%d]: %w", i, err)
		}
		if t.SectionName != nil {
			x.rule = string(*t.SectionName)
		}
		if x.rule != "" && x.object.Kind == Service {
			return nil, fmt.Errorf("targetRefs[%d].sectionName: a Service has none", i)
		}
		if slices.Contains(out, x) {
			return nil, fmt.Errorf("targetRefs[%d]: %s is named twice", i, x)
		}
		out = append(out, x)
	}
	return out, nil
}

func (r *reader) protocol(p v1alpha1.Protocol, targets []target) mesh.Protocol {
	for _, t := range targets {
		if t.object.Kind != Service {
			r.fail("protocol", errors.New("can be told of a Service only"))
		}
	}
	switch p {
	case v1alpha1.ProtocolTCP:
		return mesh.TCP
	case v1alpha1.ProtocolHTTP1:
		return mesh.HTTP1
	case v1alpha1.ProtocolHTTP2:
		return mesh.HTTP2
	}
	r.fail("protocol", fmt.Errorf("%.100q is neither TCP nor HTTP1 nor HTTP2", p))
	return mesh.Unknown
}

func (r *reader) retries(from *v1alpha1.Retries) *mesh.Retry {
	if from == nil {
		return nil
	}
	out := &mesh.Retry{
		Connect: from.Connect == nil || *from.Connect,
		Limit:   r.number("retries.limit", from.Limit, defaultRetryLimit, 1, 10),
		Attempt: r.duration("retries.perTryTimeout", from.PerTryTimeout, 0, time.Millisecond, time.Hour),
		Backoff: r.duration("retries.backoff", from.Backoff, defaultBackoff, 0, time.Minute),
		Ratio:   defaultBudgetPercent / 100., Floor: defaultBudgetFloor,
	}
	if b := from.Budget; b != nil {
		out.Ratio = float64(r.number("retries.budget.percent", b.Percent, defaultBudgetPercent, 0, 100)) / 100
		out.Floor = float64(r.number("retries.budget.minPerSecond", b.MinPerSecond, defaultBudgetFloor, 0, 100_000))
		if out.Ratio == 0 && out.Floor == 0 {
			r.fail("retries.budget", errors.New("of nothing"))
		}
	}
	r.fail("retries", atMost("http", len(from.HTTP), maxItems))
	r.fail("retries", atMost("grpc", len(from.GRPC), maxItems))
	if r.err != nil {
		return nil
	}
	for i, s := range from.HTTP {
		x, err := readStatuses(s)
		r.fail(fmt.Sprintf("retries.http[%d]", i), err)
		out.Statuses = append(out.Statuses, x)
	}
	for i, s := range from.GRPC {
		code, err := readGRPCStatus(s)
		r.fail(fmt.Sprintf("retries.grpc[%d]", i), err)
		out.GRPC = append(out.GRPC, code)
	}
	if !out.Connect && len(out.Statuses)+len(out.GRPC) == 0 {
		r.fail("retries", errors.New("nothing is retried"))
	}
	return out
}

func readStatuses(s intstr.IntOrString) (mesh.StatusRange, error) {
	switch {
	case s.Type == intstr.Int && s.IntVal >= 400 && s.IntVal <= 599:
		return mesh.StatusRange{First: uint16(s.IntVal), Last: uint16(s.IntVal)}, nil
	case s.Type == intstr.String && s.StrVal == "5xx":
		return mesh.StatusRange{First: 500, Last: 599}, nil
	case s.Type == intstr.String && s.StrVal == "gateway-error":
		return mesh.StatusRange{First: 502, Last: 504}, nil
	}
	return mesh.StatusRange{}, fmt.Errorf("%.100q is neither a number from 400 to 599 nor 5xx nor gateway-error", s.String())
}

func (r *reader) timeouts(from *v1alpha1.Timeouts) *mesh.Timeouts {
	if from == nil {
		return nil
	}
	const most = time.Duration(math.MaxInt64)
	out := &mesh.Timeouts{
		Request: r.duration("timeouts.request", from.Request, 0, 0, most),
		Attempt: r.duration("timeouts.backendRequest", from.BackendRequest, 0, 0, most),
		Idle:    r.duration("timeouts.idle", from.Idle, 0, 0, most),
	}
	if from.Request == nil && from.BackendRequest == nil && from.Idle == nil {
		r.fail("timeouts", errors.New("there are none"))
	}
	if out.Request > 0 && out.Attempt > out.Request {
		r.fail("timeouts.backendRequest", errors.New("longer than request"))
	}
	return out
}

func (r *reader) breaker(from *v1alpha1.CircuitBreaker) *mesh.Breaker {
	if from == nil {
		return nil
	}
	out := &mesh.Breaker{
		Consecutive: r.number("circuitBreaker.consecutiveFailures", from.ConsecutiveFailures, defaultConsecutive, 0, 100_000),
		Connections: r.number("circuitBreaker.maxConnections", from.MaxConnections, 0, 1, maxCount),
		Pending:     r.number("circuitBreaker.maxPending", from.MaxPending, 0, 1, maxCount),
		Min:         defaultProbationMin, Max: defaultProbationMax, Jitter: defaultJitter / 100.,
	}
	if s := from.SuccessRate; s != nil {
		out.SuccessRate = float64(r.number("circuitBreaker.successRate.percent", s.Percent, defaultSuccess, 1, 100)) / 100
		out.Requests = r.number("circuitBreaker.successRate.minRequests", s.MinRequests, defaultMinRequests, 1, 100_000)
		out.Window = r.duration("circuitBreaker.successRate.window", s.Window, defaultWindow, time.Second, 10*time.Minute)
	}
	if p := from.Probation; p != nil {
		out.Min = r.duration("circuitBreaker.probation.min", p.Min, defaultProbationMin, 10*time.Millisecond, time.Hour)
		out.Max = r.duration("circuitBreaker.probation.max", p.Max, defaultProbationMax, 10*time.Millisecond, time.Hour)
		out.Jitter = float64(r.number("circuitBreaker.probation.jitterPercent", p.JitterPercent, defaultJitter, 0, 100)) / 100
	}
	if out.Min > out.Max {
		r.fail("circuitBreaker.probation", errors.New("min is longer than max"))
	}
	return out
}
