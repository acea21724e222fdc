// Package v1alpha1 is the API of fairlead.io: TrafficPolicy and AuthorizationPolicy.
//
// Promises:
//  1. What is a mistake within one object is refused by the schema or by a rule of it, with a message that names the
//     field and what would be right. No webhook is needed.
//  2. No field has a default in the schema: what is not said is not said, and docs/POLICY.md tells what holds then.
//  3. A field that is added later, to a rule or to a part, narrows or adds; what is written today keeps its meaning.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.io
package v1alpha1

//go:generate go tool -modfile=../../test/tools/go.mod controller-gen object crd:maxDescLen=500 paths=. output:crd:dir=../../deploy/daemonset/crds-upgraded

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is that of every kind here.
var GroupVersion = schema.GroupVersion{Group: "fairlead.io", Version: "v1alpha1"}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &TrafficPolicy{}, &TrafficPolicyList{}, &AuthorizationPolicy{}, &AuthorizationPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
