package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TrafficPolicy says how requests are treated that are sent to a Service, by a route, or by one rule of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=tpol,categories=fairlead
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRefs[0].kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRefs[0].name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Conflicted",type=string,JSONPath=`.status.conditions[?(@.type=="Conflicted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec TrafficPolicySpec `json:"spec"`
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// TrafficPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}

// TrafficPolicySpec is targets and parts. Each part is taken whole from the most specific policy that has it: that of
// the rule, of the route, of the Service.
//
// +kubebuilder:validation:XValidation:rule="has(self.retries) || has(self.timeouts) || has(self.circuitBreaker) || has(self.loadBalancing) || has(self.rateLimit) || has(self.faults) || has(self.protocol)",message="the policy says nothing: give it retries, timeouts, circuitBreaker, loadBalancing, rateLimit, faults or protocol"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || self.targetRefs.all(t, t.kind == 'Service')",message="protocol can be told of a Service only: a route has one by its kind"
// +kubebuilder:validation:XValidation:rule="!has(self.retries) || !has(self.retries.perTryTimeout) || !has(self.timeouts) || !has(self.timeouts.request) || duration(self.timeouts.request) == duration('0s') || duration(self.retries.perTryTimeout) <= duration(self.timeouts.request)",message="retries.perTryTimeout must not be longer than timeouts.request"
type TrafficPolicySpec struct {
	// TargetRefs are what the policy is for, in its own namespace.
	//
	// +required
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name && (has(a.sectionName) ? a.sectionName : ' ') == (has(b.sectionName) ? b.sectionName : ' ')))",message="a target is named twice"
	TargetRefs []TrafficTarget `json:"targetRefs"`
	// Retries: when a request is sent again.
	//
	// +optional
	Retries *Retries `json:"retries,omitempty"`
	// Timeouts end requests that take too long.
	//
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// CircuitBreaker keeps requests from endpoints that fail.
	//
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// LoadBalancing is how an endpoint is chosen.
	//
	// +optional
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
	// RateLimit bounds the requests that each receiving node lets in.
	//
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// Faults are made on purpose, for a share of the requests. The first that matches and is drawn counts.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Faults []Fault `json:"faults,omitempty"`
	// Protocol of all ports of the Service, instead of what they declare.
	//
	// +optional
	Protocol *Protocol `json:"protocol,omitempty"`
}

// TrafficTarget is a Service, a route, or a rule of a route.
//
// +kubebuilder:validation:XValidation:rule="self.kind != 'Service' || !has(self.sectionName)",message="sectionName is the name of a route's rule: a Service has none"
// +kubebuilder:validation:XValidation:rule="!has(self.group) || (self.kind == 'Service' ? self.group.size() == 0 || self.group == 'core' : self.group == 'gateway.networking.k8s.io')",message="group does not go with kind: leave it out, or write \"\" for a Service and gateway.networking.k8s.io for a route"
type TrafficTarget struct {
	// Group is that of the kind, and can be left out.
	//
	// +optional
	Group *gatewayv1.Group `json:"group,omitempty"`
	// +required
	// +kubebuilder:validation:Enum=Service;HTTPRoute;GRPCRoute
	Kind string `json:"kind"`
	// +required
	Name gatewayv1.ObjectName `json:"name"`
	// SectionName is the name of a rule of the route.
	//
	// +optional
	SectionName *gatewayv1.SectionName `json:"sectionName,omitempty"`
}

// Protocol is what is spoken. HTTP2 includes gRPC; TCP is opaque bytes.
//
// +kubebuilder:validation:Enum=TCP;HTTP1;HTTP2
type Protocol string

// The protocols.
const (
	ProtocolTCP   Protocol = "TCP"
	ProtocolHTTP1 Protocol = "HTTP1"
	ProtocolHTTP2 Protocol = "HTTP2"
)
