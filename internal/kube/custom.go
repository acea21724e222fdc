package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/api/v1alpha1"
	"fairlead.io/fairlead/internal/compile"
)

// The groups of the kinds that come by a CustomResourceDefinition.
const (
	gatewayGroup = gatewayv1.GroupName
	ownGroup     = "fairlead.io"
)

// customKind is a kind that the cluster may not have, and how it is called there.
type customKind struct {
	kind     compile.Kind
	group    string
	resource string
	versions []string // that are understood, the best first; their specs are the same
	made     func() metav1.Object
}

var customKinds = []customKind{
	{compile.HTTPRoute, gatewayGroup, "httproutes", []string{"v1", "v1beta1"}, func() metav1.Object { return &gatewayv1.HTTPRoute{} }},
	{compile.GRPCRoute, gatewayGroup, "grpcroutes", []string{"v1"}, func() metav1.Object { return &gatewayv1.GRPCRoute{} }},
	{compile.TLSRoute, gatewayGroup, "tlsroutes", []string{"v1", "v1alpha3", "v1alpha2"}, func() metav1.Object { return &gatewayv1.TLSRoute{} }},
	{compile.TCPRoute, gatewayGroup, "tcproutes", []string{"v1", "v1alpha2"}, func() metav1.Object { return &gatewayv1.TCPRoute{} }},
	{compile.ReferenceGrant, gatewayGroup, "referencegrants", []string{"v1", "v1beta1"}, func() metav1.Object { return &gatewayv1.ReferenceGrant{} }},
	{compile.TrafficPolicy, ownGroup, "trafficpolicies", []string{"v1alpha1"}, func() metav1.Object { return &v1alpha1.TrafficPolicy{} }},
	{compile.AuthorizationPolicy, ownGroup, "authorizationpolicies", []string{"v1alpha1"}, func() metav1.Object { return &v1alpha1.AuthorizationPolicy{} }},
}

// custom follows a kind that may come and go. As long as the cluster has no such kind there are no such objects.
type custom struct {
	resource
	customKind
	client dynamic.Interface
	again  time.Duration
	gone   chan struct{} // holds one: the API server knows the kind no more
	api    dynamic.ResourceInterface
}

func customs(client dynamic.Interface, again time.Duration) []*custom {
	var out []*custom
	for _, k := range customKinds {
		c := &custom{customKind: k, client: client, again: again, gone: make(chan struct{}, 1)}
		c.resource = resource{kind: k.kind, example: &unstructured.Unstructured{}, list: c.list, watch: c.watch}
		out = append(out, c)
	}
	return out
}

func (c *custom) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	return c.api.List(ctx, o)
}

func (c *custom) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return c.api.Watch(ctx, o)
}

func (c *custom) lost() { poke(c.gone) }

// follow looks whether the cluster has the kind, follows its objects while it has, and looks again from time to time while it
// has not.
func (c *custom) follow(ctx context.Context, m *mirror) {
	for wait := c.again; ; wait = c.again {
		version, err := c.served(ctx)
		m.source.fares(m, "look for", err)
		switch {
		case err != nil: // it is not known, so nothing is: as with every other kind
		case version == "":
			m.source.replace(m, nil)
		default:
			c.serve(ctx, m, version)
			wait /= 10 // it has gone, or has another version now
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// served is the best version that the cluster has of the kind; "" if it has none.
func (c *custom) served(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, v := range c.versions {
		_, err := c.at(v).List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			return v, nil
		}
		if !apierrors.IsNotFound(err) {
			return "", err
		}
	}
	return "", nil
}

func (c *custom) at(version string) dynamic.ResourceInterface {
	return c.client.Resource(schema.GroupVersionResource{Group: c.group, Version: version, Resource: c.customKind.resource})
}

// serve follows the objects in one version, until the kind is gone.
func (c *custom) serve(ctx context.Context, m *mirror, version string) {
	select {
	case <-c.gone: // of an earlier time
	default:
	}
	c.api = c.at(version)
	ctx, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	waiting.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-c.gone:
		}
	})
	m.source.serving(m, version)
	defer m.source.serving(m, "")
	m.run(ctx)
}

// typed is an object in the form that is compiled, without what is not.
func (c *custom) typed(object any) any {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object
	}
	out := c.made()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), out); err != nil {
		return fmt.Errorf("read object: %w", err) // a Problem of the object's
	}
	out.SetManagedFields(nil)
	out.SetOwnerReferences(nil)
	out.SetFinalizers(nil)
	out.SetLabels(nil)
	out.SetAnnotations(nil)
	return out
}
