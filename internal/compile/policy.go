package compile

import (
	"fmt"

	"fairlead.io/fairlead/internal/mesh"
)

// policyAnnotation says, on a namespace or on a pod, who may come in without mutual TLS of the mesh.
const policyAnnotation = "fairlead.io/default-policy"

// stated is what an object says of it, if it does.
type stated struct {
	policy mesh.DefaultPolicy
	set    bool
}

// policyValue reads the annotation. What is no policy keeps the last good one in force; without one it is the strict policy,
// for whoever wrote it has meant to say something, and an object must not be open by a slip of the pen.
func policyValue(annotations map[string]string, last stated, known bool) (stated, []error) {
	text := annotations[policyAnnotation]
	if text == "" {
		return stated{}, nil
	}
	p, err := mesh.ParseDefaultPolicy(text)
	switch {
	case err == nil:
		return stated{p, true}, nil
	case !known:
		last = stated{mesh.PolicyAuthenticated, true}
	}
	in := "nothing is stated"
	if last.set {
		in = last.policy.String()
	}
	return last, []error{fmt.Errorf("annotation %s: %w; in force: %s", policyAnnotation, err, in)}
}

// statePolicy puts what a pod says of its policy into f, and what is in force for it: the pod's word, its namespace's,
// or the mesh's.
func (w *World) statePolicy(f *facts, annotations map[string]string) {
	var last stated
	m := w.members[f.uid]
	if m != nil {
		last = m.f.stated
	}
	f.stated, f.warnings = policyValue(annotations, last, m != nil)
	switch ns := w.policies[f.name.Namespace]; {
	case f.stated.set:
		f.policy = f.stated.policy
	case ns.set:
		f.policy = ns.policy
	default:
		f.policy = w.policy
	}
}

// policyOf is what the pod's node is told. A pod that is on its way out of the mesh takes what comes: its peers are told
// first that they must speak plaintext to it.
func (w *World) policyOf(m *member) mesh.DefaultPolicy {
	if w.open(m) {
		return mesh.PolicyAllow
	}
	return m.f.policy
}

// open tells whether a pod is not to be in the mesh, or no more.
func (w *World) open(m *member) bool { return w.closed || !m.f.enrolled }
