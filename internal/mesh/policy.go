package mesh

import "fmt"

// DefaultPolicy says whose connections a pod takes where nothing more special has been said. The zero value is PolicyAllow.
// The numbers are those of the wire, and say nothing of strictness.
type DefaultPolicy uint8

// The default policies.
const (
	PolicyAllow         DefaultPolicy = iota // everybody's
	PolicyAuthenticated                      // those over mutual TLS of the mesh, whatever the protocol
	PolicyAudit                              // everybody's; what PolicyAuthenticated would have refused is counted
	PolicyDeny                               // nobody's but what an ALLOW policy allows
)

var defaultPolicies = [...]string{"allow", "authenticated", "audit", "deny"}

func (p DefaultPolicy) String() string {
	if int(p) < len(defaultPolicies) {
		return defaultPolicies[p]
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// ParseDefaultPolicy reads what users write.
func ParseDefaultPolicy(s string) (DefaultPolicy, error) {
	for p, name := range defaultPolicies {
		if s == name {
			return DefaultPolicy(p), nil
		}
	}
	return PolicyAuthenticated, fmt.Errorf("%.100q is none of %q", s, defaultPolicies)
}
