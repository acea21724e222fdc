package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// AddressConfig configures an Address.
type AddressConfig struct {
	Client       kubernetes.Interface
	Namespace    string
	PodName      string
	PodIP        netip.Addr
	Nodes, Admin uint16 // ports
	// Every is how often the slice is looked at; 10 s.
	Every time.Duration
	Log   *slog.Logger
}

// Address is where nodes find the leader: the one EndpointSlice of the controller's Service, which has no selector,
// so that nobody else writes one.
type Address struct{ cfg AddressConfig }

// NewAddress makes an Address; Run publishes it.
func NewAddress(cfg AddressConfig) *Address {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Address{cfg: cfg}
}

// Run publishes the address until the context ends, again if somebody changes it. It leaves it there: the next
// leader writes over it.
func (a *Address) Run(ctx context.Context) error {
	failed := false
	for wait := a.cfg.Every; ; wait = a.cfg.Every {
		err := a.publish(ctx)
		if err != nil && ctx.Err() == nil {
			if !failed {
				a.cfg.Log.Error("leader's address not published", "err", err)
			}
			wait = min(wait, time.Second)
		}
		failed = err != nil
		if !pause(ctx, wait) {
			return nil
		}
	}
}

func (a *Address) publish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	slices, wanted := a.cfg.Client.DiscoveryV1().EndpointSlices(a.cfg.Namespace), a.slice()
	is, err := slices.Get(ctx, Controller, metav1.GetOptions{})
	if err == nil && is.AddressType != wanted.AddressType { // it cannot be changed
		if err := slices.Delete(ctx, Controller, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete endpoint slice of another address family: %w", err)
		}
		is, err = nil, apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), Controller)
	}
	switch {
	case apierrors.IsNotFound(err):
		if _, err := slices.Create(ctx, wanted, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create endpoint slice: %w", err)
		}
	case err != nil:
		return fmt.Errorf("read endpoint slice: %w", err)
	case same(is, wanted):
		return nil
	default:
		wanted.ResourceVersion = is.ResourceVersion
		if _, err := slices.Update(ctx, wanted, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update endpoint slice: %w", err)
		}
	}
	a.cfg.Log.Info("leader's address published", "addr", a.cfg.PodIP.String())
	return nil
}

func same(a, b *discoveryv1.EndpointSlice) bool {
	for k, v := range b.Labels {
		if a.Labels[k] != v {
			return false
		}
	}
	return equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints) && equality.Semantic.DeepEqual(a.Ports, b.Ports)
}

func (a *Address) slice() *discoveryv1.EndpointSlice {
	yes, no, tcp := true, false, corev1.ProtocolTCP
	family := discoveryv1.AddressTypeIPv4
	if a.cfg.PodIP.Unmap().Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: Controller, Namespace: a.cfg.Namespace, Labels: map[string]string{
			discoveryv1.LabelServiceName: Controller, discoveryv1.LabelManagedBy: Controller, generatedLabel: "true",
		}},
		AddressType: family,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{a.cfg.PodIP.Unmap().String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: a.cfg.Namespace, Name: a.cfg.PodName},
		}},
	}
	for _, p := range []struct {
		name   string
		number uint16
	}{{nodesPort, a.cfg.Nodes}, {adminPort, a.cfg.Admin}} {
		number := int32(p.number)
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.name, Port: &number, Protocol: &tcp})
	}
	return s
}
