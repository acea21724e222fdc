package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PolicyStatus is what the controller has made of a policy.
type PolicyStatus struct {
	// Conditions are Accepted, ResolvedRefs and Conflicted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The conditions of a policy.
const (
	// ConditionAccepted: the policy is in force. If it is not, its last valid version may be: the message says so.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs: all that it names is there, and it is about something.
	ConditionResolvedRefs = "ResolvedRefs"
	// ConditionConflicted: an older policy for the same target has something that this one has, too.
	ConditionConflicted = "Conflicted"
)

// The reasons of the conditions.
const (
	ReasonAccepted       = "Accepted"
	ReasonInvalid        = "Invalid"
	ReasonConflicted     = "Conflicted"
	ReasonNotPermitted   = "NotPermitted"
	ReasonResolvedRefs   = "ResolvedRefs"
	ReasonTargetNotFound = "TargetNotFound"
	ReasonNothingMatched = "NothingMatched"
	ReasonNoConflict     = "NoConflict"
)
