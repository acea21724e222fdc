package mesh

import "net/netip"

// Authorization is one AuthorizationPolicy, for all that it is about. All nodes know all of them.
type Authorization struct {
	Name
	Action Action
	// Mesh and Namespace: it is about every pod, or about those of a namespace. Otherwise it is about the pods whose
	// rows name it (Pod.Policies).
	Mesh  bool
	All   string     // the namespace all pods of which it is about; "" is none
	Ports []uint16   // of the pods; none is every port
	Rules []AuthRule // any; none matches nothing
}

// Action is what a policy does with what it matches: deny first, then allow. What is about a pod and allows
// something, denies everything else. AUDIT lets pass and counts what it matches.
type Action uint8

// The actions.
const (
	Allow Action = iota
	Deny
	Audit
)

var actions = [...]string{"ALLOW", "DENY", "AUDIT"}

func (a Action) String() string {
	if int(a) < len(actions) {
		return actions[a]
	}
	return "unknown"
}

// AuthRule matches what comes from any of From, to any of To. None of them matches everything.
type AuthRule struct {
	From []Peer
	To   []Operation
}

// Peer matches clients; all parts that are there have to hold.
type Peer struct {
	IDs             []string // SPIFFE IDs, or the beginning of some and "*"
	Accounts        []Account
	Namespaces      []string
	CIDRs           []netip.Prefix
	Except          []netip.Prefix // not these, of CIDRs
	Authenticated   bool           // by mutual TLS of the mesh
	Unauthenticated bool           // without
}

// Operation matches requests; all parts that are there have to hold. One with a part that only a request has never
// matches a connection of opaque bytes, for ALLOW; for DENY, what cannot be known counts as matched.
type Operation struct {
	Matches []Match // any of them: paths, methods, headers
}

// PolicyRef says that an Authorization is about a pod, at one port or at all.
type PolicyRef struct {
	Policy Name
	Port   uint16 // 0 is every port
}
