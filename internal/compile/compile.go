// Package compile turns Kubernetes objects and what the keepers have captured into what the nodes are told. Dir
// reads the objects from a directory of YAML files.
//
// Promises:
//  1. An object that is malformed, or contradicts another, is a Problem; everything else is served, and the last
//     good version of that object stays in force.
//  2. Of two objects that claim the same thing, the one that was there first has it, until it lets go.
//  3. The cost of a change is that of the change, not of the world.
//  4. A World is safe for concurrent use, and what it hands out never changes afterwards.
package compile

import (
	"fmt"
)

// Kind is a kind of object that matters.
type Kind string

// The kinds.
const (
	Namespace      Kind = "Namespace"
	Node           Kind = "Node"
	ServiceAccount Kind = "ServiceAccount"
	Pod            Kind = "Pod"
	Service        Kind = "Service"
	EndpointSlice  Kind = "EndpointSlice"
	HTTPRoute      Kind = "HTTPRoute"
	GRPCRoute      Kind = "GRPCRoute"
	TLSRoute       Kind = "TLSRoute"
	TCPRoute       Kind = "TCPRoute"
	ReferenceGrant Kind = "ReferenceGrant"

	TrafficPolicy       Kind = "TrafficPolicy"
	AuthorizationPolicy Kind = "AuthorizationPolicy"
)

// Key names an object.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return fmt.Sprintf("%s %s", k.Kind, k.Name)
	}
	return fmt.Sprintf("%s %s/%s", k.Kind, k.Namespace, k.Name)
}

// Origin is where an object was read.
type Origin struct {
	File string
	Line int
}

// Object is one Kubernetes object: a pointer to a type of k8s.io/api, of sigs.k8s.io/gateway-api/apis/v1, or of ours, which
// belongs to the World afterwards.
type Object struct {
	Key
	Origin
	Value any // or an error: what is there cannot be read, and the last good version stays
}

// Problem is why an object, or a part of it, is not served as it stands.
type Problem struct {
	File   string
	Line   int
	Object string
	Err    error
}

func (p Problem) String() string {
	if p.File == "" {
		return fmt.Sprintf("%s: %v", p.Object, p.Err)
	}
	return fmt.Sprintf("%s:%d: %s: %v", p.File, p.Line, p.Object, p.Err)
}

func (p Problem) less(q Problem) bool {
	if p.File != q.File {
		return p.File < q.File
	}
	if p.Line != q.Line {
		return p.Line < q.Line
	}
	return p.String() < q.String()
}
