package testnet

import (
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Service makes the commonest of services: a ClusterIP for one port, of the pods that bear the label app=name.
func Service(namespace, name string, port, target int) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name},
			Ports: []corev1.ServicePort{{Name: "http", Port: int32(port), TargetPort: intstr.FromInt(target)}}}}
}

// AddService adds or replaces a service. As the API server does, it fills in what the caller left open: dual-stack
// ClusterIPs, node ports, protocols and target ports. It returns what it wrote.
func (l *Lab) AddService(service *corev1.Service) (*corev1.Service, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := service.DeepCopy()
	if s.Namespace == "" {
		s.Namespace = "default"
	}
	l.world.namespace(s.Namespace)
	old := l.world.services[key(s.Namespace, s.Name)]
	if err := l.world.complete(s, old); err != nil {
		return nil, fmt.Errorf("service %s/%s: %w", s.Namespace, s.Name, err)
	}
	l.world.services[key(s.Namespace, s.Name)] = s
	return s.DeepCopy(), l.syncLocked()
}

// DeleteService removes a service.
func (l *Lab) DeleteService(namespace, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.world.services, key(namespace, name))
	return l.syncLocked()
}

// SetManifest puts objects of any kind into the cluster, as YAML, in the place of those of that name before; an empty text takes them
// away.
func (l *Lab) SetManifest(name, text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text == "" {
		delete(l.world.manifests, name)
	} else {
		l.world.manifests[name] = []byte(text)
	}
	return l.syncLocked()
}

// LabelNamespace sets labels of a namespace, and makes it first if need be. An empty value removes a label.
func (l *Lab) LabelNamespace(name string, labels map[string]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ns := l.world.namespace(name)
	maps.Copy(ns.Labels, labels)
	maps.DeleteFunc(ns.Labels, func(_, v string) bool { return v == "" })
	return l.syncLocked()
}

// AnnotateNamespace sets annotations of a namespace, as LabelNamespace does labels.
func (l *Lab) AnnotateNamespace(name string, annotations map[string]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	ns := l.world.namespace(name)
	if ns.Annotations == nil {
		ns.Annotations = map[string]string{}
	}
	maps.Copy(ns.Annotations, annotations)
	maps.DeleteFunc(ns.Annotations, func(_, v string) bool { return v == "" })
	return l.syncLocked()
}

func (w *world) complete(s, old *corev1.Service) error {
	if s.Name == "" {
		return errors.New("no name")
	}
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	if old != nil {
		s.UID = old.UID
	} else {
		s.UID = meta("", "", nil).UID
	}
	if s.Spec.Type == "" {
		s.Spec.Type = corev1.ServiceTypeClusterIP
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if s.Spec.SessionAffinity == "" {
		s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	if s.Spec.InternalTrafficPolicy == nil {
		cluster := corev1.ServiceInternalTrafficPolicyCluster
		s.Spec.InternalTrafficPolicy = &cluster
	}
	w.giveIPs(s, old)
	for i := range s.Spec.Ports {
		w.completePort(s, old, &s.Spec.Ports[i])
	}
	return nil
}

// giveIPs keeps what the service had, or takes the next of 10.96.0.0/16 and fd96::/112.
func (w *world) giveIPs(s, old *corev1.Service) {
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	policy := corev1.IPFamilyPolicyPreferDualStack
	s.Spec.IPFamilyPolicy = &policy
	switch {
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		s.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
	case len(s.Spec.ClusterIPs) > 0:
	case s.Spec.ClusterIP != "":
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	case old != nil && old.Spec.ClusterIP != corev1.ClusterIPNone && old.Spec.ClusterIP != "":
		s.Spec.ClusterIPs = old.Spec.ClusterIPs
	default:
		w.ips++
		n := 9 + w.ips // the first few are for the API server and the name server
		s.Spec.ClusterIPs = []string{fmt.Sprintf("10.96.%d.%d", n>>8&0xff, n&0xff), fmt.Sprintf("fd96::%x", n&0xffff)}
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
}

func (w *world) completePort(s, old *corev1.Service, p *corev1.ServicePort) {
	if p.Protocol == "" {
		p.Protocol = corev1.ProtocolTCP
	}
	if p.TargetPort == (intstr.IntOrString{}) {
		p.TargetPort = intstr.FromInt32(p.Port)
	}
	if s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer || p.NodePort != 0 {
		return
	}
	if old != nil {
		for _, was := range old.Spec.Ports {
			if was.Port == p.Port && was.NodePort != 0 {
				p.NodePort = was.NodePort
				return
			}
		}
	}
	p.NodePort = int32(30000 + w.nodePorts)
	w.nodePorts++
}
