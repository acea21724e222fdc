package compile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead.io/fairlead/internal/mesh"
)

// facts are what matters of a pod that runs, or is to run, on a node.
type facts struct {
	uid        string
	name       mesh.Name
	account    mesh.Account
	node       string
	workload   string
	addrs      []netip.Addr // of its status
	hostNet    bool
	enrolled   bool
	probePorts []uint16
	drain      time.Duration
	stated     stated             // by the pod itself
	labels     map[string]string  // what selectors ask about
	policy     mesh.DefaultPolicy // in force
	warnings   []error            // what of it is not served as it stands
}

var uidForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) // it becomes a file name

// podFacts reads a pod; nil without an error for one that runs nowhere, not yet or not any more.
func (w *World) podFacts(p *corev1.Pod) (*facts, error) {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	f := &facts{
		uid: string(p.UID), name: mesh.Name{Namespace: p.Namespace, Name: p.Name},
		account: mesh.Account{Namespace: p.Namespace, Name: p.Spec.ServiceAccountName},
		node:    p.Spec.NodeName, hostNet: p.Spec.HostNetwork,
		workload: workload(p), probePorts: probePorts(p), drain: drain(p), labels: p.Labels,
	}
	if f.uid == "" {
		f.uid = madeUID(p)
	}
	if !uidForm.MatchString(f.uid) {
		return nil, fmt.Errorf("uid %.200q is not one", f.uid)
	}
	if err := checkName(Key{Kind: Node, Name: f.node}); err != nil {
		return nil, fmt.Errorf("nodeName: %w", err)
	}
	if f.account.Name == "" {
		f.account.Name = "default"
	}
	if err := w.checkAccount(f.account); err != nil {
		return nil, err
	}
	var err error
	if f.addrs, err = podAddrs(p); err != nil {
		return nil, err
	}
	w.statePolicy(f, p.Annotations)
	f.enrolled, err = w.enrolled(p)
	return f, err
}

// madeUID is for pods in files, which need none. It differs from node to node, because a pod does not move.
func madeUID(p *corev1.Pod) string {
	h := sha256.Sum256([]byte(p.Namespace + "/" + p.Name + "@" + p.Spec.NodeName))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// checkAccount: the account "default" exists in every namespace, whether a file says so or not.
func (w *World) checkAccount(a mesh.Account) error {
	if _, ok := w.objects[Key{Kind: Namespace, Name: a.Namespace}]; !ok {
		return fmt.Errorf("unknown namespace %q", a.Namespace)
	}
	if a.Name == "default" {
		return nil
	}
	if _, ok := w.objects[Key{Kind: ServiceAccount, Namespace: a.Namespace, Name: a.Name}]; !ok {
		return fmt.Errorf("unknown service account %q", a.Name)
	}
	return nil
}

func (w *World) enrolled(p *corev1.Pod) (bool, error) {
	v, err := enrolValue(p.Labels)
	if err != nil {
		return false, err
	}
	if p.Spec.HostNetwork || w.system[p.Namespace] {
		return false, nil
	}
	if v != "" {
		return v == enabled, nil
	}
	return w.namespaces[p.Namespace], nil
}

func podAddrs(p *corev1.Pod) ([]netip.Addr, error) {
	var texts []string
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && p.Status.PodIP != "" {
		texts = []string{p.Status.PodIP}
	}
	var out []netip.Addr
	for _, text := range texts {
		a, err := parseAddr(text)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, a) {
			return nil, fmt.Errorf("address %s twice", a)
		}
		out = append(out, a)
	}
	if len(out) > 2 {
		return nil, errors.New("more than two addresses")
	}
	return out, nil
}

func drain(p *corev1.Pod) time.Duration {
	d := 30 * time.Second
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		d = time.Duration(min(max(*s, 0), 3600)) * time.Second
	}
	return d
}

// The hash in the name of a Deployment's ReplicaSet, and the time in that of a CronJob's Job.
var (
	replicaHash = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5,10}$`)
	cronTime    = regexp.MustCompile(`-[0-9]{8,10}$`)
)

// workload is the name that people know the pod by.
func workload(p *corev1.Pod) string {
	if o := metav1.GetControllerOf(p); o != nil && o.Name != "" {
		name := o.Name
		switch o.Kind {
		case "ReplicaSet":
			hash := p.Labels["pod-template-hash"]
			if rest, ok := strings.CutSuffix(name, "-"+hash); ok && hash != "" && rest != "" {
				return rest
			}
			name = replicaHash.ReplaceAllString(name, "")
		case "Job":
			name = cronTime.ReplaceAllString(name, "")
		}
		if name != "" {
			return name
		}
		return o.Name
	}
	for _, label := range []string{"app.kubernetes.io/name", "app"} {
		if v := p.Labels[label]; v != "" {
			return v
		}
	}
	return p.Name
}

// probePorts are the ports that the kubelet calls.
func probePorts(p *corev1.Pod) []uint16 {
	var out []uint16
	add := func(c *corev1.Container, port intstr.IntOrString) {
		n := port.IntValue()
		if port.Type == intstr.String {
			for _, q := range c.Ports {
				if q.Name == port.StrVal {
					n = int(q.ContainerPort)
				}
			}
		}
		if n > 0 && n <= 65535 && !slices.Contains(out, uint16(n)) {
			out = append(out, uint16(n))
		}
	}
	containers := append(slices.Clone(p.Spec.InitContainers), p.Spec.Containers...)
	for i := range containers {
		c := &containers[i]
		for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if probe == nil {
				continue
			}
			switch {
			case probe.HTTPGet != nil:
				add(c, probe.HTTPGet.Port)
			case probe.TCPSocket != nil:
				add(c, probe.TCPSocket.Port)
			case probe.GRPC != nil:
				add(c, intstr.FromInt32(probe.GRPC.Port))
			}
		}
	}
	slices.Sort(out)
	return out
}
