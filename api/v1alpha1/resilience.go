package v1alpha1

import "k8s.io/apimachinery/pkg/util/intstr"

// Retries are of requests whose bodies have at most 64 KiB.
//
// +kubebuilder:validation:XValidation:rule="has(self.http) || has(self.grpc) || !has(self.connect) || self.connect",message="nothing is retried: give http, grpc, or leave connect on"
type Retries struct {
	// HTTP statuses that are retried: numbers from 400 to 599, "5xx", or "gateway-error" for 502, 503 and 504.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(s, type(s) == string ? s in ['5xx', 'gateway-error'] : s >= 400 && s <= 599)",message="a retried status is a number from 400 to 599, \"5xx\" or \"gateway-error\""
	HTTP []intstr.IntOrString `json:"http,omitempty"`
	// GRPC statuses that are retried.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	GRPC []GRPCStatus `json:"grpc,omitempty"`
	// Connect: retry where no connection came about, or it broke before the answer began. On if not said.
	//
	// +optional
	Connect *bool `json:"connect,omitempty"`
	// Limit is how many times a request is sent again at most. 1 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Limit *int32 `json:"limit,omitempty"`
	// PerTryTimeout ends one attempt, which then counts as failed. None if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="perTryTimeout must be between 1ms and 1h"
	PerTryTimeout *Duration `json:"perTryTimeout,omitempty"`
	// Backoff is the pause before the first retry, and doubles with each; a random share of it is left out. 25ms if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="backoff must be at most 1m"
	Backoff *Duration `json:"backoff,omitempty"`
	// Budget bounds the retries of a node to a Service.
	//
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
}

// RetryBudget keeps retries from becoming a storm.
//
// +kubebuilder:validation:XValidation:rule="!has(self.percent) || !has(self.minPerSecond) || self.percent > 0 || self.minPerSecond > 0",message="a budget of nothing: give percent or minPerSecond more than 0"
type RetryBudget struct {
	// Percent of the requests of the last ten seconds that may be retries. 20 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// MinPerSecond is how many retries a second are allowed beside. 10 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	MinPerSecond *int32 `json:"minPerSecond,omitempty"`
}

// Timeouts in Gateway API durations, such as 500ms or 1m30s; 0s is no limit.
//
// +kubebuilder:validation:XValidation:rule="has(self.request) || has(self.backendRequest) || has(self.idle)",message="give request, backendRequest or idle"
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') || duration(self.backendRequest) <= duration(self.request)",message="backendRequest must not be longer than request"
type Timeouts struct {
	// Request is from the request's head to the end of the response, retries included.
	//
	// +optional
	Request *Duration `json:"request,omitempty"`
	// BackendRequest is one attempt, to the end of its response.
	//
	// +optional
	BackendRequest *Duration `json:"backendRequest,omitempty"`
	// Idle is how long no byte may go either way.
	//
	// +optional
	Idle *Duration `json:"idle,omitempty"`
}

// Duration is a duration of the Gateway API (GEP-2257): up to four numbers of up to five digits, each with its unit h, m, s or ms.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$')",message="a duration is one to four numbers of at most five digits, each with its unit h, m, s or ms: 500ms, 1m30s"
type Duration string

// CircuitBreaker takes an endpoint out after failures, and tries it with single requests until it answers.
type CircuitBreaker struct {
	// ConsecutiveFailures take an endpoint out; 0 is no such limit. 7 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	ConsecutiveFailures *int32 `json:"consecutiveFailures,omitempty"`
	// SuccessRate takes an endpoint out whose share of successes is too small. None if not said.
	//
	// +optional
	SuccessRate *SuccessRate `json:"successRate,omitempty"`
	// Probation is how long an endpoint is out.
	//
	// +optional
	Probation *Probation `json:"probation,omitempty"`
	// MaxConnections of a node to each endpoint. No limit if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`
	// MaxPending requests that wait for a connection to each endpoint. No limit if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxPending *int32 `json:"maxPending,omitempty"`
}

// SuccessRate is a share over a window.
type SuccessRate struct {
	// Percent of requests that must succeed. 80 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// MinRequests that the window must hold before the share counts. 5 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MinRequests *int32 `json:"minRequests,omitempty"`
	// Window is what is looked back on. 10s if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="window must be between 1s and 10m"
	Window *Duration `json:"window,omitempty"`
}

// Probation is the time before each try of an endpoint that is out: Min, then twice as long after each that fails, up to Max.
//
// +kubebuilder:validation:XValidation:rule="duration(has(self.min) ? self.min : '1s') <= duration(has(self.max) ? self.max : '1m')",message="min must not be longer than max (1s and 1m where they are not given)"
type Probation struct {
	// Min is 1s if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1h')",message="min must be between 10ms and 1h"
	Min *Duration `json:"min,omitempty"`
	// Max is 1m if not said.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1h')",message="max must be between 10ms and 1h"
	Max *Duration `json:"max,omitempty"`
	// JitterPercent is how much of each time is left to chance, so that nodes do not try together. 50 if not said.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	JitterPercent *int32 `json:"jitterPercent,omitempty"`
}
