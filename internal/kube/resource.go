package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"fairlead.io/fairlead/internal/compile"
)

// Kinds beside those of the compiler.
const (
	secret    compile.Kind = "Secret"
	configMap compile.Kind = "ConfigMap"
)

// resource is what one watch follows: a kind in the whole cluster, or one object of our namespace.
type resource struct {
	kind    compile.Kind
	name    string // of the one object
	example runtime.Object
	fields  string
	list    func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch   func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

func (r *resource) String() string {
	if r.name != "" {
		return string(r.kind) + " " + r.name
	}
	return string(r.kind)
}

// api is what a typed client can do with a resource.
type api[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

func all[L runtime.Object](kind compile.Kind, example runtime.Object, a api[L]) *resource {
	return &resource{kind: kind, example: example, watch: a.Watch,
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return a.List(ctx, o) }}
}

func one[L runtime.Object](kind compile.Kind, name string, example runtime.Object, a api[L]) *resource {
	r := all(kind, example, a)
	r.name, r.fields = name, "metadata.name="+name
	return r
}

// resources are all that a controller follows.
func resources(client kubernetes.Interface, cfg SourceConfig) []*resource {
	core := client.CoreV1()
	pods := all(compile.Pod, &corev1.Pod{}, core.Pods(""))
	pods.fields = "status.phase!=Succeeded,status.phase!=Failed" // those that run nowhere any more are as good as gone
	return []*resource{
		all(compile.Namespace, &corev1.Namespace{}, core.Namespaces()),
		all(compile.Node, &corev1.Node{}, core.Nodes()),
		all(compile.ServiceAccount, &corev1.ServiceAccount{}, core.ServiceAccounts("")),
		all(compile.Service, &corev1.Service{}, core.Services("")),
		pods,
		all(compile.EndpointSlice, &discoveryv1.EndpointSlice{}, client.DiscoveryV1().EndpointSlices("")),
		one(secret, cfg.IssuerSecret, &corev1.Secret{}, core.Secrets(cfg.Namespace)),
		one(configMap, cfg.RootsConfigMap, &corev1.ConfigMap{}, core.ConfigMaps(cfg.Namespace)),
		one(configMap, LeaveConfigMap, &corev1.ConfigMap{}, core.ConfigMaps(cfg.Namespace)),
	}
}

// mirror is where a reflector puts the objects of a resource, and how the source learns how it fares.
type mirror struct {
	*resource
	source *Source
	custom *custom // of a kind that the cluster may not have
	// Protected by the Source's mutex:
	synced  bool
	err     error  // of the last request; nil when it was answered
	version string // in which a custom kind is followed, as long as the cluster has it
}

// follow follows the resource until the context ends, whether the cluster has such a kind or not.
func (m *mirror) follow(ctx context.Context) {
	if m.custom == nil {
		m.run(ctx)
		return
	}
	m.custom.follow(ctx, m)
}

// run follows the resource until the context ends. A failure is tried again, from half a second to ten apart: the
// reflector's own pauses of up to a minute would keep news from the nodes for that long after an outage.
func (m *mirror) run(ctx context.Context) {
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: m.listed, WatchFuncWithContext: m.watched,
	}, m.source.client)
	r := cache.NewReflectorWithOptions(lw, m.example, m, cache.ReflectorOptions{
		Name:    m.String(),
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Cap: 10 * time.Second, Steps: 8, Factor: 2, Jitter: 0.5},
	})
	r.RunWithContext(klog.NewContext(ctx, klog.Logger{})) // what it has to say, fares says once
}

func (m *mirror) listed(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.FieldSelector = m.fields
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := m.list(ctx, o)
	if m.custom != nil && apierrors.IsNotFound(err) {
		m.custom.lost()
		return list, err
	}
	m.source.fares(m, "list", err)
	return list, err
}

func (m *mirror) watched(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.FieldSelector = m.fields
	w, err := m.watch(ctx, o)
	if m.custom != nil && apierrors.IsNotFound(err) {
		m.custom.lost()
		return w, err
	}
	if err == nil && reflect.TypeOf(w) == cut {
		m.source.fares(m, "watch", errCut)
		return w, nil
	}
	m.source.fares(m, "watch", err)
	return w, err
}

// A watch whose connection ends before the answer is an empty one to the client, and no error.
var (
	cut    = reflect.TypeOf(watch.NewEmptyWatch())
	errCut = errors.New("the connection ended before the answer")
)

// Transformer has the reflector's own copies slimmed as well.
func (m *mirror) Transformer() cache.TransformFunc {
	if m.custom != nil {
		return nil
	}
	return func(object any) (any, error) { return slim(object), nil }
}

// Add implements cache.ReflectorStore, as do the following.
func (m *mirror) Add(object any) error { return m.Update(object) }

// Update takes an object.
func (m *mirror) Update(object any) error {
	k, err := m.key(object)
	if err != nil {
		return err
	}
	m.source.put(k, m.kept(object))
	return nil
}

// kept is what is kept of an object.
func (m *mirror) kept(object any) any {
	if m.custom != nil {
		return m.custom.typed(object)
	}
	return slim(object)
}

// Delete forgets an object.
func (m *mirror) Delete(object any) error {
	k, err := m.key(object)
	if err != nil {
		return err
	}
	m.source.drop(k)
	return nil
}

// Replace takes all objects that there are.
func (m *mirror) Replace(list []any, _ string) error {
	objects := make(map[compile.Key]any, len(list))
	for _, o := range list {
		k, err := m.key(o)
		if err != nil {
			return err
		}
		objects[k] = m.kept(o)
	}
	m.source.replace(m, objects)
	return nil
}

// Resync does nothing: what is kept is what was told.
func (m *mirror) Resync() error { return nil }

func (m *mirror) key(object any) (compile.Key, error) {
	o, ok := object.(metav1.Object)
	if !ok {
		return compile.Key{}, fmt.Errorf("follow %s: object of type %T", m, object)
	}
	return compile.Key{Kind: m.kind, Namespace: o.GetNamespace(), Name: o.GetName()}, nil
}

// owns tells whether a key is of this resource.
func (m *mirror) owns(k compile.Key) bool {
	return m.kind == k.Kind && (m.name == "" || m.name == k.Name)
}
