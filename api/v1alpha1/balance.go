package v1alpha1

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// LoadBalancing is how an endpoint is chosen.
//
// +kubebuilder:validation:XValidation:rule="has(self.algorithm) && self.algorithm == 'ConsistentHash' ? has(self.hashOn) : !has(self.hashOn)",message="hashOn and algorithm ConsistentHash go together: one without the other means nothing"
// +kubebuilder:validation:XValidation:rule="has(self.algorithm) || has(self.slowStart) || has(self.zonePreference)",message="give algorithm, slowStart or zonePreference"
type LoadBalancing struct {
	// Algorithm is PeakEWMA if not said: two endpoints are drawn, and the one with less to do and faster answers is taken.
	//
	// +optional
	// +kubebuilder:validation:Enum=PeakEWMA;LeastRequest;RoundRobin;ConsistentHash
	Algorithm *string `json:"algorithm,omitempty"`
	// HashOn is what a consistent hash is made of. A request without it is balanced by PeakEWMA.
	//
	// +optional
	HashOn *HashOn `json:"hashOn,omitempty"`
	// SlowStart is how long the share of a new endpoint grows. Not at all if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1h')",message="slowStart must be at most 1h"
	SlowStart *Duration `json:"slowStart,omitempty"`
	// ZonePreference: PreferSameZone takes endpoints of the caller's zone first, as long as they suffice. What the
	// Service's trafficDistribution says, if not said here.
	//
	// +optional
	// +kubebuilder:validation:Enum=PreferSameZone;None
	ZonePreference *string `json:"zonePreference,omitempty"`
}

// HashOn is a header, a cookie, or the client's address.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'Source' ? !has(self.name) : has(self.name)",message="type Header and Cookie need a name, type Source has none"
type HashOn struct {
	// +required
	// +kubebuilder:validation:Enum=Header;Cookie;Source
	Type string `json:"type"`
	// Name of the header or of the cookie.
	//
	// +optional
	Name *gatewayv1.HeaderName `json:"name,omitempty"`
}

// RateLimit bounds the requests that each receiving node lets in; what is beyond is answered with 429 and Retry-After,
// or with RESOURCE_EXHAUSTED for gRPC.
//
// +kubebuilder:validation:XValidation:rule="has(self.total) || has(self.perClient) || has(self.overrides)",message="give total, perClient or overrides"
type RateLimit struct {
	// Total of all clients together.
	//
	// +optional
	Total *Rate `json:"total,omitempty"`
	// PerClient is for each identity; all clients without one are one client.
	//
	// +optional
	PerClient *Rate `json:"perClient,omitempty"`
	// Overrides are rates of some identities, instead of PerClient.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Overrides []RateOverride `json:"overrides,omitempty"`
}

// Rate of requests.
//
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h')",message="interval must be between 1s and 1h"
type Rate struct {
	// Requests in each Interval.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Requests int32 `json:"requests"`
	// Interval is 1s if not said.
	//
	// +optional
	Interval *Duration `json:"interval,omitempty"`
	// Burst is how many may come at once. As many as Requests if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Burst *int32 `json:"burst,omitempty"`
}

// RateOverride is a rate for identities.
type RateOverride struct {
	Rate `json:",inline"`
	// Identities are SPIFFE IDs. Each has the rate for itself.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Identities []SPIFFEID `json:"identities"`
}

// SPIFFEID is an identity, spiffe://trust-domain/ns/NAMESPACE/sa/SERVICE-ACCOUNT.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches('^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$')",message="an identity is a SPIFFE ID: spiffe://trust-domain/ns/NAMESPACE/sa/SERVICE-ACCOUNT"
type SPIFFEID string

// Fault disturbs a share of the requests.
//
// +kubebuilder:validation:XValidation:rule="has(self.delay) || has(self.abort)",message="a fault needs delay or abort"
// +kubebuilder:validation:XValidation:rule="has(self.percent) != has(self.fraction)",message="give percent or fraction, and only one of them"
type Fault struct {
	// Match: any of them; without one it is every request. A call of gRPC has the path /service/method.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(m, (!has(m.path) || m.path.type != 'RegularExpression' || 'x'.matches(m.path.value) in [true, false]) && (!has(m.headers) || m.headers.all(h, h.type != 'RegularExpression' || 'x'.matches(h.value) in [true, false])) && (!has(m.queryParams) || m.queryParams.all(q, q.type != 'RegularExpression' || 'x'.matches(q.value) in [true, false])))",message="a value of type RegularExpression must be one (RE2)"
	Match []gatewayv1.HTTPRouteMatch `json:"match,omitempty"`
	// Percent of the requests that match.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// Fraction of the requests that match, for less than one in a hundred.
	//
	// +optional
	Fraction *gatewayv1.Fraction `json:"fraction,omitempty"`
	// Delay before the request is sent on, or aborted.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('10m')",message="delay must be between 1ms and 10m"
	Delay *Duration `json:"delay,omitempty"`
	// Abort answers instead of the Service.
	//
	// +optional
	Abort *Abort `json:"abort,omitempty"`
}

// Abort is an answer.
//
// +kubebuilder:validation:XValidation:rule="has(self.httpStatus) || has(self.grpcStatus)",message="give httpStatus or grpcStatus"
type Abort struct {
	// HTTPStatus of the answer to requests that are not gRPC. Without it they are not aborted.
	//
	// +optional
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	HTTPStatus *int32 `json:"httpStatus,omitempty"`
	// GRPCStatus of the answer to gRPC requests. UNAVAILABLE if not said.
	//
	// +optional
	GRPCStatus *GRPCStatus `json:"grpcStatus,omitempty"`
}

// GRPCStatus is the name of a gRPC status code that is not OK.
//
// +kubebuilder:validation:Enum=CANCELLED;UNKNOWN;INVALID_ARGUMENT;DEADLINE_EXCEEDED;NOT_FOUND;ALREADY_EXISTS;PERMISSION_DENIED;RESOURCE_EXHAUSTED;FAILED_PRECONDITION;ABORTED;OUT_OF_RANGE;UNIMPLEMENTED;INTERNAL;UNAVAILABLE;DATA_LOSS;UNAUTHENTICATED
type GRPCStatus string
