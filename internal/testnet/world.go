package testnet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// world is the cluster's objects, and the directory that shows them.
type world struct {
	dir        string
	shown      map[string][]byte // file name -> content
	namespaces map[string]*corev1.Namespace
	nodes      map[string]*corev1.Node
	accounts   map[string]*corev1.ServiceAccount
	pods       map[string]*corev1.Pod
	services   map[string]*corev1.Service
	slices     map[string]*discoveryv1.EndpointSlice // made from pods and services
	manifests  map[string][]byte                     // objects of other kinds, as they are written
	live       map[string]*Pod                       // what has a network namespace
	ips        int                                   // ClusterIPs given out so far
	nodePorts  int
}

func newWorld(dir string) *world {
	return &world{dir: dir, shown: map[string][]byte{}, namespaces: map[string]*corev1.Namespace{}, nodes: map[string]*corev1.Node{},
		accounts: map[string]*corev1.ServiceAccount{}, pods: map[string]*corev1.Pod{}, services: map[string]*corev1.Service{},
		slices: map[string]*discoveryv1.EndpointSlice{}, manifests: map[string][]byte{}, live: map[string]*Pod{}}
}

func key(namespace, name string) string { return namespace + "/" + name }

func meta(namespace, name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(newUID()), Labels: maps.Clone(labels)}
}

// namespace returns the namespace of that name, and makes it with its default account first if need be.
func (w *world) namespace(name string) *corev1.Namespace {
	ns, ok := w.namespaces[name]
	if !ok {
		ns = &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: meta("", name, map[string]string{"kubernetes.io/metadata.name": name}),
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
		w.namespaces[name] = ns
		w.account(name, "default")
	}
	return ns
}

func (w *world) account(namespace, name string) {
	if _, ok := w.accounts[key(namespace, name)]; !ok {
		w.accounts[key(namespace, name)] = &corev1.ServiceAccount{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta(namespace, name, nil)}
	}
}

func (w *world) addNode(n *Node) {
	labels := map[string]string{"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": zoneOf(n)}
	node := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta("", n.Name, labels)}
	for _, cidr := range n.PodCIDRs {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, cidr.String())
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	for _, a := range n.Addrs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	w.nodes[n.Name] = node
}

// zoneOf spreads the nodes over two zones.
func zoneOf(n *Node) string { return "zone-" + string(rune('a'+(n.number-1)%2)) }

// files are all objects as files: name -> object.
func (w *world) files() map[string]any {
	files := make(map[string]any)
	put := func(kind, key string, object any) {
		files[kind+"-"+strings.ReplaceAll(key, "/", "-")+"."+fmt.Sprintf("%08x", hash(kind+key))+".yaml"] = object
	}
	for k, o := range w.namespaces {
		put("namespace", k, o)
	}
	for k, o := range w.nodes {
		put("node", k, o)
	}
	for k, o := range w.accounts {
		put("serviceaccount", k, o)
	}
	for k, o := range w.pods {
		put("pod", k, o)
	}
	for k, o := range w.services {
		put("service", k, o)
	}
	for k, o := range w.slices {
		put("endpointslice", k, o)
	}
	for name, text := range w.manifests {
		files["manifest-"+name+".yaml"] = text
	}
	return files
}

// show brings the directory up to date: each changed file is replaced in one step, and those of no object go.
func (w *world) show() error {
	files := w.files()
	for name, object := range files {
		b, written := object.([]byte)
		if !written {
			var err error
			if b, err = yaml.Marshal(object); err != nil {
				return fmt.Errorf("encode %s: %w", name, err)
			}
		}
		if bytes.Equal(b, w.shown[name]) {
			continue
		}
		if err := replaceFile(filepath.Join(w.dir, name), b); err != nil {
			return err
		}
		w.shown[name] = b
	}
	for name := range w.shown {
		if _, ok := files[name]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			return err
		}
		delete(w.shown, name)
	}
	return nil
}

// replaceFile writes aside, under a name that no reader takes for an object, and renames.
func replaceFile(path string, content []byte) error {
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(aside, content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	return nil
}
