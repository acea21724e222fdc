package keeper

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// record is one pod sandbox of this node that was seen, captured or not: a pod that is not in the mesh today may be
// tomorrow. It is on disk, but for what has no name in JSON.
type record struct {
	Cookie     uint64        `json:"cookie"` // of its network namespace
	NetNSPath  string        `json:"netns"`
	Container  string        `json:"container,omitempty"`
	IfName     string        `json:"ifname,omitempty"`
	Network    string        `json:"network,omitempty"`
	UID        string        `json:"uid,omitempty"`
	Name       mesh.Name     `json:"name"`
	Addrs      []netip.Addr  `json:"addrs"`
	Enrolled   bool          `json:"enrolled"` // to be captured
	Account    mesh.Account  `json:"account"`
	ProbePorts []uint16      `json:"probePorts,omitempty"`
	Drain      time.Duration `json:"drain,omitempty"`

	netns    NetNS
	captured bool
	told     bool // the proxies know it as it is
}

// defaultDrain is for pods that the controller names no longer.
const defaultDrain = 30 * time.Second

func (r *record) pod() socket.Pod {
	return socket.Pod{UID: r.UID, Name: r.Name, Account: r.Account, Addrs: r.Addrs}
}

// take makes the record what the controller says of the pod.
func (r *record) take(e *mesh.Enrolment) (changed bool) {
	if r.Enrolled == e.Enrolled && r.UID == e.UID && r.Account == e.Account && slices.Equal(r.ProbePorts, e.ProbePorts) && r.Drain == e.Drain {
		return false
	}
	r.told = r.told && r.UID == e.UID && r.Account == e.Account
	r.Enrolled, r.UID, r.Account, r.ProbePorts, r.Drain = e.Enrolled, e.UID, e.Account, e.ProbePorts, e.Drain
	return true
}

// enrolmentOf finds what the controller says of a pod; nil if it does not name it. A pod is its UID: another of the same
// name is another. Only runtimes that tell none, and static pods, whose UID at the runtime is a hash and not that of
// their mirror in the API, are found by name.
func enrolmentOf(a *control.Assignment, r *record) *mesh.Enrolment {
	if a == nil {
		return nil
	}
	byName := r.UID == "" || !strings.Contains(r.UID, "-")
	var named *mesh.Enrolment
	for i := range a.Pods {
		e := &a.Pods[i]
		if e.UID == r.UID {
			return e
		}
		if byName && e.Name == r.Name {
			named = e
		}
	}
	return named
}

// recordOf is what an ADD says.
func recordOf(q *cni.Request, ns NetNS) *record {
	return &record{
		Cookie: ns.Cookie(), NetNSPath: q.NetNSPath, Container: q.ContainerID, IfName: q.IfName, Network: q.Network,
		UID: q.Pod.UID, Name: mesh.Name{Namespace: q.Pod.Namespace, Name: q.Pod.Name}, Addrs: q.Addresses, netns: ns,
	}
}
