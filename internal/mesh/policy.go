package mesh

import "fmt"

// DefaultPolicy says whose connections a pod takes where nothing more special has been said. The zero value is PolicyAllow.
type DefaultPolicy uint8

// The default policies, the strictest last.
const (
	PolicyAllow         DefaultPolicy = iota // everybody's
	PolicyAuthenticated                      // those over mutual TLS of the mesh, whatever the protocol
)

var defaultPolicies = [...]string{"allow", "authenticated"}

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
	return PolicyAuthenticated, fmt.Errorf("%.100q is neither %q nor %q", s, PolicyAllow, PolicyAuthenticated)
}
