package testnet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodSpec says what a pod is.
type PodSpec struct {
	Namespace string // default "default"
	Name      string
	Labels    map[string]string
	Account   string // default "default"
	Workload  string // the Deployment that owns it, if any
	Ports     []corev1.ContainerPort
	NotReady  bool // not ready until SetReady
	// HostNetwork makes the pod share its node's network; no plugin is called for it.
	HostNetwork bool
	// Retry is how long AddPod tries again while the network's plugins answer with code 11, as kubelet does.
	Retry time.Duration
	// Lead is how long the pod's object is there before its network is made, as the scheduler and kubelet take their time.
	Lead time.Duration
	// Edit changes the object before it is written first.
	Edit func(*corev1.Pod)
}

// Pod is a network namespace on a node with a pod's object.
type Pod struct {
	Namespace, Name, UID string
	Node                 *Node
	Addrs                []netip.Addr // IPv4, IPv6, from CNI
	place
	hostNet   bool
	container string // the runtime's id of it
	dir       string // its hosts and resolv.conf
	link      string // CNI_NETNS
}

// AddPod starts a pod: its object, its namespace, its network, its addresses. Nothing of it is left when it fails; a
// refusal by a plugin is found in the error as *types.Error of containernetworking.
func (n *Node) AddPod(ctx context.Context, spec PodSpec) (*Pod, error) {
	p, err := n.newPod(spec)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	select {
	case <-time.After(spec.Lead):
	case <-ctx.Done():
	}
	if spec.HostNetwork {
		p.Addrs = n.Addrs
	} else if err := p.addNetwork(ctx, spec.Retry); err != nil {
		return nil, errors.Join(fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err), p.Delete(context.WithoutCancel(ctx)))
	}
	err = p.edit(func(o *corev1.Pod) {
		o.Status.Phase = corev1.PodRunning
		for _, a := range p.Addrs {
			o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: a.String()})
		}
		if len(p.Addrs) > 0 {
			o.Status.PodIP = p.Addrs[0].String()
		}
		setReady(o, !spec.NotReady)
	})
	if err != nil {
		return nil, errors.Join(err, p.Delete(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func (n *Node) newPod(spec PodSpec) (_ *Pod, err error) {
	if spec.Namespace == "" {
		spec.Namespace = "default"
	}
	o := n.object(spec)
	p := &Pod{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Node: n, hostNet: o.Spec.HostNetwork, container: newID(32)}
	p.dir = n.path("pods/" + p.UID)
	p.link = filepath.Join(n.NetNSDir(), "cni-"+p.UID)
	p.place = place{lab: n.lab, hostname: p.Name, cgroup: filepath.Join(n.cgroup, "kubepods", "pod"+p.UID),
		binds: map[string]string{"/etc/hosts": filepath.Join(p.dir, "hosts"), "/etc/resolv.conf": filepath.Join(p.dir, "resolv.conf")}}
	if o.Spec.Hostname != "" {
		p.hostname = o.Spec.Hostname
	}
	if err := p.prepare(); err != nil {
		return nil, errors.Join(err, p.release())
	}
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	w := n.lab.world
	if _, ok := w.pods[key(o.Namespace, o.Name)]; ok {
		return nil, errors.Join(errors.New("there is one of that name"), p.release())
	}
	w.namespace(o.Namespace)
	w.account(o.Namespace, o.Spec.ServiceAccountName)
	w.pods[key(o.Namespace, o.Name)] = o
	w.live[key(o.Namespace, o.Name)] = p
	return p, n.lab.syncLocked()
}

// prepare makes what the runtime makes before it calls CNI.
func (p *Pod) prepare() error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return err
	}
	if err := p.prepareNetNS(); err != nil {
		return err
	}
	resolv := fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:1\n", p.Namespace)
	return errors.Join(os.WriteFile(filepath.Join(p.dir, "resolv.conf"), []byte(resolv), 0o644),
		os.WriteFile(filepath.Join(p.dir, "hosts"), nil, 0o644))
}

func (p *Pod) prepareNetNS() (err error) {
	if p.hostNet {
		p.netns, p.hostname = p.Node.netns, p.Node.Name
		return nil
	}
	if p.netns, err = newNetNS(); err != nil {
		return err
	}
	// As containerd sets them, and without waiting for duplicates of addresses that nobody else has.
	err = p.netns.do(func() error {
		return sysctl(map[string]string{"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0", "ipv4/ip_unprivileged_port_start": "0"})
	})
	if err != nil {
		return err
	}
	return os.Symlink(p.netns.path(), p.link)
}

// object is the pod as the API server has it once it is bound to its node.
func (n *Node) object(spec PodSpec) *corev1.Pod {
	o := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: meta(spec.Namespace, spec.Name, spec.Labels)}
	o.CreationTimestamp = metav1.NewTime(time.Now().UTC().Truncate(time.Second))
	o.Spec.NodeName, o.Spec.ServiceAccountName = n.Name, spec.Account
	if o.Spec.ServiceAccountName == "" {
		o.Spec.ServiceAccountName = "default"
	}
	o.Spec.HostNetwork = spec.HostNetwork
	o.Spec.Containers = []corev1.Container{{Name: "app", Image: "lab", Ports: spec.Ports}}
	o.Status.Phase, o.Status.HostIP = corev1.PodPending, n.Addrs[0].String()
	for _, a := range n.Addrs {
		o.Status.HostIPs = append(o.Status.HostIPs, corev1.HostIP{IP: a.String()})
	}
	if spec.Workload != "" {
		isTrue := true
		revision := fmt.Sprintf("%08x", hash(spec.Workload))
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: spec.Workload + "-" + revision,
			UID: types.UID(newUID()), Controller: &isTrue}}
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["pod-template-hash"] = revision
	}
	if spec.Edit != nil {
		spec.Edit(o)
	}
	return o
}

// edit changes the pod's object and what follows from it.
func (p *Pod) edit(change func(*corev1.Pod)) error {
	p.lab.mu.Lock()
	defer p.lab.mu.Unlock()
	o, ok := p.lab.world.pods[key(p.Namespace, p.Name)]
	if !ok || string(o.UID) != p.UID {
		return fmt.Errorf("pod %s/%s is gone", p.Namespace, p.Name)
	}
	change(o)
	return p.lab.syncLocked()
}

// Edit changes the pod's object, such as its labels.
func (p *Pod) Edit(change func(*corev1.Pod)) error { return p.edit(change) }

// SetReady sets the pod's readiness, as kubelet's probes would.
func (p *Pod) SetReady(ready bool) error {
	return p.edit(func(o *corev1.Pod) { setReady(o, ready) })
}

func setReady(o *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	o.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}, {Type: corev1.ContainersReady, Status: status}}
}

// Terminate marks the pod as being deleted: its endpoints terminate, its programs go on.
func (p *Pod) Terminate() error {
	return p.edit(func(o *corev1.Pod) {
		now := metav1.NewTime(time.Now().UTC().Truncate(time.Second))
		o.DeletionTimestamp = &now
	})
}

// Delete ends the pod as kubelet does: marked, programs killed, network taken down by CNI DEL, namespace and object gone.
func (p *Pod) Delete(ctx context.Context) error {
	if err := p.Terminate(); err != nil {
		return err
	}
	err := removeCgroup(p.cgroup)
	if !p.hostNet {
		err = errors.Join(err, p.delNetwork(ctx))
	}
	p.lab.mu.Lock()
	defer p.lab.mu.Unlock()
	delete(p.lab.world.pods, key(p.Namespace, p.Name))
	delete(p.lab.world.live, key(p.Namespace, p.Name))
	return errors.Join(err, p.release(), p.lab.syncLocked())
}

// release gives back what is held for the pod outside the objects.
func (p *Pod) release() error {
	errs := []error{os.RemoveAll(p.link), os.RemoveAll(p.dir)}
	if !p.hostNet {
		errs = append(errs, p.netns.close())
	}
	return errors.Join(errs...)
}

// Run runs a program in the pod and returns its standard output.
func (p *Pod) Run(ctx context.Context, c Command) ([]byte, error) { return p.run(ctx, c) }

// Start starts a program in the pod.
func (p *Pod) Start(c Command) (*Process, error) { return p.start(c) }

// Do runs fn on a thread in the pod's network namespace.
func (p *Pod) Do(fn func() error) error { return p.netns.do(fn) }

// Dial connects from the pod. addr holds an IP address, no name.
func (p *Pod) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialFrom(ctx, p.netns, network, addr)
}

// NetNS is the path that the plugins get as CNI_NETNS.
func (p *Pod) NetNS() string { return p.link }

// Addr is the pod's address of the family, 4 or 6.
func (p *Pod) Addr(family int) netip.Addr {
	for _, a := range p.Addrs {
		if a.Is4() == (family == 4) {
			return a
		}
	}
	return netip.Addr{}
}

func newID(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func newUID() string {
	id := newID(16)
	return id[:8] + "-" + id[8:12] + "-4" + id[13:16] + "-8" + id[17:20] + "-" + id[20:]
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}
