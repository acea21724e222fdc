package testnet

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// syncLocked brings everything that follows from the objects up to date: slices, files, hosts files, service rules.
func (l *Lab) syncLocked() error {
	l.world.endpoints()
	if err := l.world.show(); err != nil {
		return err
	}
	for _, p := range l.world.live {
		if err := p.writeHosts(); err != nil {
			return err
		}
	}
	for _, n := range l.nodes {
		if err := n.setRules(); err != nil {
			return err
		}
	}
	return nil
}

// endpoints makes the slices of every service with a selector, one for each family, as the endpoint controller does.
func (w *world) endpoints() {
	old := w.slices
	w.slices = make(map[string]*discoveryv1.EndpointSlice)
	for _, s := range w.services {
		if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			slice := w.slice(s, family)
			k := key(slice.Namespace, slice.Name)
			if was := old[k]; was != nil {
				slice.UID = was.UID
			}
			w.slices[k] = slice
		}
	}
}

func (w *world) slice(s *corev1.Service, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	suffix := map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "-v4", discoveryv1.AddressTypeIPv6: "-v6"}[family]
	labels := map[string]string{discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"}
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	slice := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: meta(s.Namespace, s.Name+suffix, labels), AddressType: family, Endpoints: []discoveryv1.Endpoint{}}
	isTrue := true
	slice.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: s.Name, UID: s.UID, Controller: &isTrue}}
	pods := w.selected(s)
	for _, p := range s.Spec.Ports {
		if len(pods) == 0 {
			break // the endpoint controller names no ports then
		}
		target := targetPort(pods[0], p.TargetPort)
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	for _, pod := range pods {
		if addr, ok := podAddr(pod, family == discoveryv1.AddressTypeIPv4); ok {
			slice.Endpoints = append(slice.Endpoints, w.endpoint(s, pod, addr))
		}
	}
	return slice
}

func (w *world) endpoint(s *corev1.Service, pod *corev1.Pod, addr netip.Addr) discoveryv1.Endpoint {
	terminating := pod.DeletionTimestamp != nil
	serving := isReady(pod)
	ready := serving && !terminating || s.Spec.PublishNotReadyAddresses
	e := discoveryv1.Endpoint{Addresses: []string{addr.String()}, NodeName: &pod.Spec.NodeName,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}}
	if node := w.nodes[pod.Spec.NodeName]; node != nil {
		zone := node.Labels["topology.kubernetes.io/zone"]
		e.Zone = &zone
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == s.Name {
		e.Hostname = &pod.Spec.Hostname
	}
	return e
}

// selected are the service's pods, in the order of their names.
func (w *world) selected(s *corev1.Service) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range w.pods {
		if pod.Namespace == s.Namespace && isSubset(s.Spec.Selector, pod.Labels) {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

func isSubset(want, have map[string]string) bool {
	for k := range maps.Keys(want) {
		if v, ok := have[k]; !ok || v != want[k] {
			return false
		}
	}
	return true
}

// targetPort is the number of a target port, which a pod may have given a name.
func targetPort(pod *corev1.Pod, target intstr.IntOrString) int32 {
	if target.Type == intstr.Int {
		return target.IntVal
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == target.StrVal {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func podAddr(pod *corev1.Pod, v4 bool) (netip.Addr, bool) {
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is4() == v4 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
