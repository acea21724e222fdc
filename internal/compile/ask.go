package compile

import (
	corev1 "k8s.io/api/core/v1"
)

// EnrolLabel is the label of a namespace or pod that says whether it is to be in the mesh, with its two values.
const (
	EnrolLabel = enrolLabel
	Enabled    = enabled
	Disabled   = disabled
)

// Workload is the name that people know a pod by, and metrics too.
func Workload(p *corev1.Pod) string { return workload(p) }

// Wanted tells whether a pod is to be in the mesh by its own label and its namespace's, as a World would decide. It
// does not know which namespaces are the system's. Returns an error for a label that is neither.
func Wanted(namespace *corev1.Namespace, p *corev1.Pod) (bool, error) {
	of, err := enrolValue(namespace.Labels)
	if err != nil {
		return false, err
	}
	own, err := enrolValue(p.Labels)
	switch {
	case err != nil:
		return false, err
	case p.Spec.HostNetwork:
		return false, nil
	case own != "":
		return own == enabled, nil
	}
	return of == enabled, nil
}
