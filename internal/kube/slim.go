package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// slim leaves of an object what is compiled of it. It takes nothing from the object but what does not change.
func slim(object any) any {
	switch o := object.(type) {
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: slimMeta(&o.ObjectMeta)}
	case *corev1.ServiceAccount:
		return &corev1.ServiceAccount{ObjectMeta: slimMeta(&o.ObjectMeta)}
	case *corev1.Node:
		return &corev1.Node{ObjectMeta: slimMeta(&o.ObjectMeta), Spec: corev1.NodeSpec{Taints: o.Spec.Taints},
			Status: corev1.NodeStatus{Addresses: o.Status.Addresses}}
	case *corev1.Service:
		return &corev1.Service{ObjectMeta: slimMeta(&o.ObjectMeta), Spec: o.Spec,
			Status: corev1.ServiceStatus{LoadBalancer: o.Status.LoadBalancer}}
	case *discoveryv1.EndpointSlice:
		return &discoveryv1.EndpointSlice{ObjectMeta: slimMeta(&o.ObjectMeta),
			AddressType: o.AddressType, Ports: o.Ports, Endpoints: slimEndpoints(o.Endpoints)}
	case *corev1.Pod:
		return slimPod(o)
	case *corev1.Secret:
		return &corev1.Secret{ObjectMeta: slimMeta(&o.ObjectMeta), Type: o.Type, Data: map[string][]byte{
			certKey: o.Data[certKey], keyKey: o.Data[keyKey], rootsKey: o.Data[rootsKey],
		}}
	case *corev1.ConfigMap:
		return &corev1.ConfigMap{ObjectMeta: slimMeta(&o.ObjectMeta), Data: map[string]string{rootsKey: o.Data[rootsKey]}}
	}
	return object
}

// slimMeta leaves labels, the owner and the annotations that are ours; what wrote which field is the largest part
// of most objects.
func slimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp,
	}
	if owner := metav1.GetControllerOfNoCopy(m); owner != nil {
		out.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	for k, v := range m.Annotations {
		if strings.HasPrefix(k, annotations) {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[k] = v
		}
	}
	return out
}

func slimPod(p *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: slimMeta(&p.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork,
			TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
			InitContainers:                slimContainers(p.Spec.InitContainers), Containers: slimContainers(p.Spec.Containers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs},
	}
}

func slimContainers(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range containers {
		c := &containers[i]
		out = append(out, corev1.Container{
			Name: c.Name, Ports: c.Ports, RestartPolicy: c.RestartPolicy,
			LivenessProbe: slimProbe(c.LivenessProbe), ReadinessProbe: slimProbe(c.ReadinessProbe), StartupProbe: slimProbe(c.StartupProbe),
		})
	}
	return out
}

// slimProbe leaves the port that is called.
func slimProbe(p *corev1.Probe) *corev1.Probe {
	switch {
	case p == nil:
		return nil
	case p.HTTPGet != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: p.HTTPGet.Port}}}
	case p.TCPSocket != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: p.TCPSocket.Port}}}
	case p.GRPC != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: p.GRPC.Port}}}
	}
	return nil
}

func slimEndpoints(endpoints []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	out := make([]discoveryv1.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		e.TargetRef, e.DeprecatedTopology = nil, nil
		out = append(out, e)
	}
	return out
}
