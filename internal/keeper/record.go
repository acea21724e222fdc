package keeper

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	ByName     bool          `json:"byName,omitempty"` // the runtime's UID is not the one in the API
	Name       mesh.Name     `json:"name"`
	Addrs      []netip.Addr  `json:"addrs"`
	Enrolled   bool          `json:"enrolled"` // to be captured
	Account    mesh.Account  `json:"account"`
	ProbePorts []uint16      `json:"probePorts,omitempty"`
	Drain      time.Duration `json:"drain,omitempty"`
	Ran        bool          `json:"ran,omitempty"` // it ran when it was to be captured: it may have connections from before

	netns    NetNS
	starting bool // its ADD has not been answered: nothing of it runs
	inode    inode
	captured bool
	left     time.Time // when it left, until its grace is over
	told     bool      // the proxies know it as it is
	earlier  socket.Earlier
	counted  time.Time // when earlier was; zero before the first time
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
	if e.Enrolled && !r.Enrolled {
		r.Ran, r.earlier, r.counted = !r.starting, socket.Earlier{}, time.Time{}
	}
	r.Enrolled, r.UID, r.Account, r.ProbePorts, r.Drain = e.Enrolled, e.UID, e.Account, e.ProbePorts, e.Drain
	return true
}

// enrolmentOf finds what the controller says of a pod; nil if it does not name it. A pod is its UID: another of the same
// name is another. Only where the runtime tells no UID of the API is it found by name.
func enrolmentOf(a *control.Assignment, r *record) *mesh.Enrolment {
	if a == nil {
		return nil
	}
	for i := range a.Pods {
		if e := &a.Pods[i]; r.ByName && e.Name == r.Name || !r.ByName && e.UID == r.UID {
			return e
		}
	}
	return nil
}

// samePod tells whether the records are of sandboxes of one pod.
func (r *record) samePod(other *record) bool {
	if r.ByName || other.ByName {
		return r.Name == other.Name
	}
	return r.UID == other.UID
}

// inherit takes over what the controller said of the pod when it had another sandbox.
func (r *record) inherit(other *record) {
	if r.ByName {
		r.UID = other.UID
	}
	r.Enrolled, r.Account, r.ProbePorts, r.Drain = other.Enrolled, other.Account, other.ProbePorts, other.Drain
}

// join adds addresses that the record does not have yet.
func (r *record) join(addrs []netip.Addr) {
	r.Addrs = slices.Clone(r.Addrs)
	for _, a := range addrs {
		if !slices.Contains(r.Addrs, a) {
			r.Addrs = append(r.Addrs, a)
		}
	}
}

// newRecord is what an ADD says.
func newRecord(q *cni.Request, ns NetNS) (*record, error) {
	r := &record{
		NetNSPath: q.NetNSPath, Container: q.ContainerID, IfName: q.IfName, Network: q.Network,
		UID: q.Pod.UID, Name: mesh.Name{Namespace: q.Pod.Namespace, Name: q.Pod.Name}, Addrs: q.Addresses,
		// some runtimes tell no UID, and that of a static pod is a hash and not that of its mirror in the API
		ByName:   !strings.Contains(q.Pod.UID, "-"),
		starting: true,
	}
	return r, r.hold(ns)
}

// hold gives the record its namespace.
func (r *record) hold(ns NetNS) error {
	var st unix.Stat_t
	if err := unix.Fstat(ns.FD(), &st); err != nil {
		return fmt.Errorf("stat network namespace: %w", err)
	}
	r.netns, r.inode, r.Cookie = ns, inode{st.Dev, st.Ino}, ns.Cookie()
	return nil
}

// inode is a file's identity: that of a network namespace, wherever it is bound.
type inode struct{ dev, ino uint64 }

func inodeAt(path string) (inode, bool) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return inode{st.Dev, st.Ino}, err == nil
}
