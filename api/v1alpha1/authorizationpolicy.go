package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AuthorizationPolicy says who may do what at the pods that it is about.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=azp,categories=fairlead
// +kubebuilder:printcolumn:name="Action",type=string,JSONPath=`.spec.action`
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.target.kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target.name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Resolved",type=string,JSONPath=`.status.conditions[?(@.type=="ResolvedRefs")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AuthorizationPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +required
	Spec AuthorizationPolicySpec `json:"spec"`
	// +optional
	Status PolicyStatus `json:"status,omitempty"`
}

// AuthorizationPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}

// AuthorizationPolicySpec is a target, an action and rules. What a DENY matches is denied; of the rest, what an ALLOW
// is about must be matched by one; what none is about is the default policy's to decide. AUDIT counts, and changes nothing.
//
// +kubebuilder:validation:XValidation:rule="self.action == 'ALLOW' || has(self.rules)",message="DENY and AUDIT without rules match nothing: give rules (only ALLOW may have none, and then allows nothing)"
type AuthorizationPolicySpec struct {
	// Target is what the policy is about.
	//
	// +required
	Target AuthorizationTarget `json:"target"`
	// +required
	Action AuthorizationAction `json:"action"`
	// Rules: any of them. An ALLOW without rules allows nothing.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Rules []AuthorizationRule `json:"rules,omitempty"`
}

// AuthorizationAction is what happens to what matches.
//
// +kubebuilder:validation:Enum=ALLOW;DENY;AUDIT
type AuthorizationAction string

// The actions.
const (
	ActionAllow AuthorizationAction = "ALLOW"
	ActionDeny  AuthorizationAction = "DENY"
	ActionAudit AuthorizationAction = "AUDIT"
)

// The kinds of targets.
const (
	TargetMesh      = "Mesh"
	TargetNamespace = "Namespace"
	TargetPods      = "Pods"
	TargetService   = "Service"
	TargetHTTPRoute = "HTTPRoute"
	TargetGRPCRoute = "GRPCRoute"
)

// AuthorizationTarget is pods. None is outside the policy's namespace but with kind Mesh, which only a policy in the
// namespace of Fairlead may have.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'Pods' ? has(self.selector) : !has(self.selector)",message="selector belongs to kind Pods, which needs one"
// +kubebuilder:validation:XValidation:rule="self.kind in ['Service', 'HTTPRoute', 'GRPCRoute'] ? has(self.name) : !has(self.name)",message="name belongs to kind Service, HTTPRoute and GRPCRoute, which need one"
// +kubebuilder:validation:XValidation:rule="!has(self.sectionName) || self.kind in ['HTTPRoute', 'GRPCRoute']",message="sectionName is the name of a route's rule: only kind HTTPRoute and GRPCRoute have one"
// +kubebuilder:validation:XValidation:rule="!has(self.ports) || !(self.kind in ['HTTPRoute', 'GRPCRoute'])",message="a route has the ports of its Service: leave ports out"
type AuthorizationTarget struct {
	// Kind is Mesh: every pod; Namespace: every pod of this namespace; Pods: those that the selector selects; Service:
	// the pods behind it, at its ports; HTTPRoute and GRPCRoute: the same, for the requests that the route matches.
	//
	// +required
	// +kubebuilder:validation:Enum=Mesh;Namespace;Pods;Service;HTTPRoute;GRPCRoute
	Kind string `json:"kind"`
	// Name of the Service or the route.
	//
	// +optional
	Name *gatewayv1.ObjectName `json:"name,omitempty"`
	// SectionName is the name of a rule of the route.
	//
	// +optional
	SectionName *gatewayv1.SectionName `json:"sectionName,omitempty"`
	// Selector selects pods of this namespace by their labels.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.matchLabels) && self.matchLabels.size() > 0 || has(self.matchExpressions) && self.matchExpressions.size() > 0",message="an empty selector selects every pod: write kind Namespace for that"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && e.values.size() > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || e.values.size() == 0))",message="matchExpressions: operator In and NotIn need values, Exists and DoesNotExist have none"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// Ports of the pods, or of the Service with kind Service. Every port if not said.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Ports []Port `json:"ports,omitempty"`
}

// Port is the number of one.
//
// +kubebuilder:validation:Minimum=1
// +kubebuilder:validation:Maximum=65535
type Port int32

// AuthorizationRule matches what comes from any of From and is any of To. What is not given is not asked for.
//
// +kubebuilder:validation:XValidation:rule="has(self.from) || has(self.to)",message="a rule that says nothing would match everything: give from or to; everybody is from: [{authentication: Authenticated}, {authentication: Unauthenticated}]"
type AuthorizationRule struct {
	// From is the clients.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	From []AuthorizationSource `json:"from,omitempty"`
	// To is the requests. A connection that is no HTTP is never matched by a rule with it for ALLOW, and always for DENY.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	To []AuthorizationOperation `json:"to,omitempty"`
}

// AuthorizationSource matches clients: of each field that is given, one of the values has to fit.
//
// +kubebuilder:validation:XValidation:rule="has(self.identities) || has(self.serviceAccounts) || has(self.namespaces) || has(self.ipBlocks) || has(self.authentication)",message="give identities, serviceAccounts, namespaces, ipBlocks or authentication"
// +kubebuilder:validation:XValidation:rule="!has(self.authentication) || self.authentication != 'Unauthenticated' || !(has(self.identities) || has(self.serviceAccounts) || has(self.namespaces))",message="an unauthenticated client has no identity: identities, serviceAccounts and namespaces would never match"
type AuthorizationSource struct {
	// Identities are SPIFFE IDs, or the beginning of some and "*".
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Identities []IdentityMatch `json:"identities,omitempty"`
	// ServiceAccounts of clients.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	ServiceAccounts []ServiceAccountRef `json:"serviceAccounts,omitempty"`
	// Namespaces of clients.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Namespaces []gatewayv1.Namespace `json:"namespaces,omitempty"`
	// IPBlocks that clients' addresses are in.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	IPBlocks []IPBlock `json:"ipBlocks,omitempty"`
	// Authentication: Authenticated is by mutual TLS of the mesh, Unauthenticated without.
	//
	// +optional
	// +kubebuilder:validation:Enum=Authenticated;Unauthenticated
	Authentication *string `json:"authentication,omitempty"`
}

// IdentityMatch is a SPIFFE ID, or the beginning of one and "*".
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches('^spiffe://[a-z0-9._-]+/([A-Za-z0-9._-]+/)*([A-Za-z0-9._-]+[*]?|[*])$')",message="an identity is a SPIFFE ID, spiffe://trust-domain/ns/NAMESPACE/sa/SERVICE-ACCOUNT, or the beginning of one, at least spiffe://trust-domain/, and * at the end"
type IdentityMatch string

// ServiceAccountRef is a service account.
type ServiceAccountRef struct {
	// +required
	Name gatewayv1.ObjectName `json:"name"`
	// Namespace is the policy's own if not said.
	//
	// +optional
	Namespace *gatewayv1.Namespace `json:"namespace,omitempty"`
}

// IPBlock is a range of addresses without some.
//
// +kubebuilder:validation:XValidation:rule="isCIDR(self.cidr)",message="cidr must be a range of addresses such as 10.0.0.0/8"
// +kubebuilder:validation:XValidation:rule="!has(self.except) || !isCIDR(self.cidr) || self.except.all(e, isCIDR(e) && cidr(self.cidr).containsCIDR(e))",message="except must be ranges of addresses within cidr"
type IPBlock struct {
	// +required
	// +kubebuilder:validation:MaxLength=43
	CIDR string `json:"cidr"`
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=43
	Except []string `json:"except,omitempty"`
}

// AuthorizationOperation matches requests: all that is given has to hold.
//
// +kubebuilder:validation:XValidation:rule="has(self.methods) || has(self.paths) || has(self.headers) || has(self.grpc)",message="give methods, paths, headers or grpc"
// +kubebuilder:validation:XValidation:rule="!has(self.grpc) || !(has(self.methods) || has(self.paths))",message="grpc goes with headers only: a call of gRPC has its method and path by itself"
type AuthorizationOperation struct {
	// Methods: any of them.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=9
	Methods []gatewayv1.HTTPMethod `json:"methods,omitempty"`
	// Paths: any of them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(p, p.type != 'RegularExpression' || 'x'.matches(p.value) in [true, false])",message="a path of type RegularExpression must be one (RE2)"
	Paths []gatewayv1.HTTPPathMatch `json:"paths,omitempty"`
	// Headers: all of them.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.type != 'RegularExpression' || 'x'.matches(h.value) in [true, false])",message="a value of type RegularExpression must be one (RE2)"
	Headers []gatewayv1.HTTPHeaderMatch `json:"headers,omitempty"`
	// GRPC calls: any of them.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	GRPC []gatewayv1.GRPCMethodMatch `json:"grpc,omitempty"`
}
