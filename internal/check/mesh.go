package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/mesh"
)

// policyAnnotation says who may come in without mutual TLS.
const policyAnnotation = "fairlead.io/default-policy"

func meshGroup() Group {
	return Group{"mesh", []Check{
		{ID: "mesh-namespace", About: "the namespace is in the mesh", Run: checkEnrolled},
		{ID: "mesh-labels", About: "labels and annotations are understood", Run: checkLabels},
		{ID: "mesh-pods", About: "every pod that is to be in the mesh is", Run: checkMeshPods},
		{ID: "mesh-connections", About: "no connection from before a pod joined the mesh is left outside it", Run: checkEarlier},
		{ID: "mesh-starting", About: "no pod waits for the mesh to start", Run: checkStarting},
		{ID: "mesh-host-network", About: "no pod of the mesh's namespaces has its node's network", Run: checkHostNetwork},
		{ID: "mesh-certificates", About: "every pod in the mesh has its certificate", Run: checkPodCertificates},
		{ID: "mesh-protocols", About: "declared protocols are understood", Run: checkProtocols},
	}}
}

// enrolled are the namespaces in question that bear the label, by name.
func (s *State) enrolled(ctx context.Context) (map[string]*corev1.Namespace, error) {
	all, err := s.allNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	in := map[string]*corev1.Namespace{}
	for i := range all {
		if s.asked(all[i].Name) && all[i].Labels[compile.EnrolLabel] == compile.Enabled {
			in[all[i].Name] = &all[i]
		}
	}
	return in, nil
}

// asked tells whether a namespace is in question.
func (s *State) asked(namespace string) bool { return s.Namespace == "" || s.Namespace == namespace }

func (s *State) allNamespaces(ctx context.Context) ([]corev1.Namespace, error) {
	return s.namespaces.get(func() ([]corev1.Namespace, error) {
		return remote.List[corev1.Namespace](ctx, s.Client, remote.Query{})
	})
}

// allPods are those of the namespaces in question.
func (s *State) allPods(ctx context.Context) ([]corev1.Pod, error) {
	return s.pods.get(func() ([]corev1.Pod, error) {
		return remote.List[corev1.Pod](ctx, s.Client, remote.Query{Namespace: s.Namespace})
	})
}

// wanted are the pods in question that are to be in the mesh and have not ended.
func (s *State) wanted(ctx context.Context) ([]*corev1.Pod, error) {
	namespaces, err := s.allNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]*corev1.Namespace{}
	for i := range namespaces {
		byName[namespaces[i].Name] = &namespaces[i]
	}
	pods, err := s.allPods(ctx)
	if err != nil {
		return nil, err
	}
	system := s.systemNamespaces(ctx)
	var all []*corev1.Pod
	for i := range pods {
		p := &pods[i]
		ns := byName[p.Namespace]
		if ns == nil || slices.Contains(system, p.Namespace) || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if wanted, err := compile.Wanted(ns, p); err == nil && wanted {
			all = append(all, p)
		}
	}
	return all, nil
}

// systemNamespaces are never in the mesh.
func (s *State) systemNamespaces(ctx context.Context) []string {
	flag := s.controllerFlags(ctx)["system-namespaces"]
	return append(strings.FieldsFunc(flag, func(r rune) bool { return r == ',' }), s.Home)
}

func checkEnrolled(ctx context.Context, s *State) ([]Finding, error) {
	in, err := s.enrolled(ctx)
	if err != nil {
		return nil, err
	}
	if len(in) > 0 {
		if s.Namespace != "" && slices.Contains(s.systemNamespaces(ctx), s.Namespace) {
			return []Finding{failed("the value systemNamespaces of the chart says which namespaces never are", "namespace %s bears the label, but is one of the system's: it is not in the mesh", s.Namespace)}, nil
		}
		return nil, nil
	}
	if s.Namespace == "" {
		return []Finding{warned("`fairlead enroll NAMESPACE`, or `kubectl label namespace NAMESPACE fairlead.io/mesh=enabled`", "no namespace is in the mesh")}, nil
	}
	all, err := s.allNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(n corev1.Namespace) bool { return n.Name == s.Namespace }) {
		return []Finding{failed("is its name right?", "there is no namespace %s", s.Namespace)}, nil
	}
	return []Finding{failed(fmt.Sprintf("`fairlead enroll %s`, or `kubectl label namespace %s fairlead.io/mesh=enabled`", s.Namespace, s.Namespace),
		"namespace %s does not bear the label fairlead.io/mesh=enabled: its pods are not in the mesh", s.Namespace)}, nil
}

// checkLabels finds values that nobody knows, and names that look like ours.
func checkLabels(ctx context.Context, s *State) ([]Finding, error) {
	namespaces, err := s.allNamespaces(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := s.allPods(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for i := range namespaces {
		if n := &namespaces[i]; s.asked(n.Name) {
			found = append(found, strange("namespace "+n.Name, n.Labels, n.Annotations)...)
		}
	}
	for i := range pods {
		p := &pods[i]
		found = append(found, strange("pod "+p.Namespace+"/"+p.Name, p.Labels, p.Annotations)...)
	}
	return found, nil
}

// strange are the labels and annotations of one object that are not understood.
func strange(what string, labels, annotations map[string]string) []Finding {
	var found []Finding
	if v, ok := labels[compile.EnrolLabel]; ok && v != compile.Enabled && v != compile.Disabled {
		found = append(found, failed("write enabled or disabled", "%s: label %s is %q: it is not in the mesh", what, compile.EnrolLabel, v))
	}
	if v, ok := annotations[compile.EnrolLabel]; ok {
		found = append(found, warned("make it a label", "%s: %s=%s is an annotation, which nobody looks at", what, compile.EnrolLabel, v))
	}
	v, ok := annotations[policyAnnotation]
	if _, err := mesh.ParseDefaultPolicy(v); ok && err != nil {
		found = append(found, failed("write allow, authenticated, audit or deny; the check controller-problems, and `fairlead explain`, say what is in force", "%s: annotation %s is %q, which is not understood", what, policyAnnotation, v))
	}
	if v, ok := labels[policyAnnotation]; ok {
		found = append(found, warned("make it an annotation", "%s: %s=%s is a label, which nobody looks at", what, policyAnnotation, v))
	}
	return found
}

func checkProtocols(ctx context.Context, s *State) ([]Finding, error) {
	services, err := remote.List[corev1.Service](ctx, s.Client, remote.Query{Namespace: s.Namespace})
	if err != nil {
		return nil, err
	}
	in, err := s.enrolled(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, svc := range services {
		if in[svc.Namespace] == nil {
			continue
		}
		for _, p := range svc.Spec.Ports {
			if p.AppProtocol != nil && *p.AppProtocol != "" && mesh.ParseAppProtocol(*p.AppProtocol) == mesh.Unknown {
				found = append(found, warned("http, kubernetes.io/ws, kubernetes.io/h2c, grpc, https, tcp and some databases are known; without appProtocol it is found out too",
					"service %s/%s: appProtocol %q of port %d is not known: what is spoken is found out from the first bytes", svc.Namespace, svc.Name, *p.AppProtocol, p.Port))
			}
		}
	}
	return found, nil
}
