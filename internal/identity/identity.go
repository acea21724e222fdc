// Package identity answers who somebody is: SPIFFE IDs, the CA that signs them, the certificates that prove
// them, and the TLS configurations that check them.
//
// Promises:
//  1. Apart from its zero value an invalid ID cannot exist: IDs are made by parsing only.
//  2. Nothing but the public key of a certificate request reaches the certificate; names and usages come from
//     the Request, which the caller has authorised.
//  3. A certificate never outlives its issuer, and a Source never hands out an expired one.
//  4. Every connection is TLS 1.3, and its peer is checked by its one URI name against the Bundle as it is at
//     that moment; a refusal is a *VerifyError with a Cause that can be counted.
//  5. Bundle, CA and Rotator are safe for concurrent use, and a replacement shows at the next handshake.
package identity

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"fairlead.io/fairlead/internal/mesh"
)

// TrustDomain is the name that all identities of one mesh share.
type TrustDomain = spiffeid.TrustDomain

// ParseTrustDomain reads a trust domain's name, such as "cluster.local".
func ParseTrustDomain(s string) (TrustDomain, error) {
	if strings.Contains(s, "/") {
		return TrustDomain{}, fmt.Errorf("parse trust domain %q: only the name is wanted", s)
	}
	td, err := spiffeid.TrustDomainFromString(s)
	if err != nil {
		return TrustDomain{}, fmt.Errorf("parse trust domain %q: %w", s, err)
	}
	return td, nil
}

// ID is the SPIFFE ID of a service account or of one of Fairlead's own components. IDs can be compared with ==.
type ID struct{ id spiffeid.ID }

// ParseID reads a SPIFFE ID of one of the four forms that exist in the mesh:
//
//	spiffe://<td>/ns/<namespace>/sa/<service account>
//	spiffe://<td>/fairlead/keeper/<node>
//	spiffe://<td>/fairlead/proxy/<node>
//	spiffe://<td>/fairlead/controller
func ParseID(s string) (ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("parse SPIFFE ID %q: %w", s, err)
	}
	return known(id)
}

// AccountID is the ID of a service account.
func AccountID(td TrustDomain, a mesh.Account) (ID, error) {
	return fromSegments(td, "ns", a.Namespace, "sa", a.Name)
}

// KeeperID is the ID of a node's keeper.
func KeeperID(td TrustDomain, node string) (ID, error) {
	return fromSegments(td, component, keeper, node)
}

// ProxyID is the ID of a node's proxy.
func ProxyID(td TrustDomain, node string) (ID, error) {
	return fromSegments(td, component, proxy, node)
}

// ControllerID is the ID of the controller.
func ControllerID(td TrustDomain) (ID, error) { return fromSegments(td, component, controller) }

const (
	component  = "fairlead"
	keeper     = "keeper"
	proxy      = "proxy"
	controller = "controller"

	maxName = 253 // a Kubernetes name's limit (RFC 1123 subdomain)
)

func fromSegments(td TrustDomain, segments ...string) (ID, error) {
	id, err := spiffeid.FromSegments(td, segments...)
	if err != nil {
		return ID{}, fmt.Errorf("make SPIFFE ID of %q: %w", segments, err)
	}
	return known(id)
}

func known(id spiffeid.ID) (ID, error) {
	i := ID{id}
	seg := i.segments()
	for _, s := range seg {
		if len(s) > maxName {
			return ID{}, fmt.Errorf("SPIFFE ID with a name of %d bytes, at most %d are allowed", len(s), maxName)
		}
	}
	switch {
	case len(seg) == 4 && seg[0] == "ns" && seg[2] == "sa",
		len(seg) == 3 && seg[0] == component && (seg[1] == keeper || seg[1] == proxy),
		len(seg) == 2 && seg[0] == component && seg[1] == controller:
		return i, nil
	}
	return ID{}, fmt.Errorf("SPIFFE ID %q is neither an account's nor a component's", id)
}

func (i ID) segments() []string { return strings.Split(strings.TrimPrefix(i.id.Path(), "/"), "/") }

// String is the ID as a URI; empty for the zero value.
func (i ID) String() string { return i.id.String() }

// IsZero tells whether the ID is the zero value.
func (i ID) IsZero() bool { return i.id.IsZero() }

// TrustDomain is the trust domain of the ID.
func (i ID) TrustDomain() TrustDomain { return i.id.TrustDomain() }

// Account is the service account of the ID, if it is one's.
func (i ID) Account() (mesh.Account, bool) {
	if seg := i.segments(); len(seg) == 4 {
		return mesh.Account{Namespace: seg[1], Name: seg[3]}, true
	}
	return mesh.Account{}, false
}

// Keeper is the node of a keeper's ID.
func (i ID) Keeper() (node string, ok bool) { return i.component(keeper) }

// Proxy is the node of a proxy's ID.
func (i ID) Proxy() (node string, ok bool) { return i.component(proxy) }

func (i ID) component(kind string) (string, bool) {
	if seg := i.segments(); len(seg) == 3 && seg[1] == kind {
		return seg[2], true
	}
	return "", false
}

// IsController tells whether the ID is the controller's.
func (i ID) IsController() bool {
	seg := i.segments()
	return len(seg) == 2 && seg[1] == controller
}
