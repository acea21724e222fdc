package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
)

// Version is the version of the messages. An end refuses any other.
const Version = 1

// MaxMessage bounds a request and a reply.
const MaxMessage = 64 << 10

// A Command is the CNI verb that the runtime called the plugin with.
type Command string

// The commands.
const (
	Add    Command = "ADD"
	Del    Command = "DEL"
	Check  Command = "CHECK"
	GC     Command = "GC"
	Status Command = "STATUS"
)

// ErrMessage is what every refused message wraps.
var ErrMessage = errors.New("bad message")

// Pod names a pod as the runtime does in CNI_ARGS. The UID is empty with runtimes that do not pass it.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// Attachment names one interface of one container: GC's list of those that still live consists of them.
type Attachment struct {
	ContainerID string `json:"id"`
	IfName      string `json:"if"`
}

// Request is what the plugin tells the keeper.
type Request struct {
	Version     int     `json:"version"`
	Command     Command `json:"command"`
	Network     string  `json:"network,omitempty"` // name of the network configuration, for GC of several networks
	ContainerID string  `json:"container,omitempty"`
	IfName      string  `json:"ifname,omitempty"`
	Pod         Pod     `json:"pod,omitzero"`
	// NetNSPath is the runtime's path of the namespace: to find it again after a restart, never to open it now.
	NetNSPath string       `json:"netns,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Valid     []Attachment `json:"valid,omitempty"` // GC: everything else is gone
	// Budget is how many milliseconds the plugin waits for the reply.
	Budget int64 `json:"budget_ms,omitempty"`

	// NetNS is the pod's network namespace (ADD and CHECK; nil otherwise). It is the server's and is closed when
	// the Handler returns: a Handler that keeps it duplicates it.
	NetNS *os.File `json:"-"`
}

// Timeout is the budget within its bounds.
func (r *Request) Timeout() time.Duration {
	d := time.Duration(r.Budget) * time.Millisecond
	if r.Budget <= 0 || r.Budget > maxTimeout.Milliseconds() {
		return DefaultTimeout
	}
	return d
}

// Reply is what the keeper answers.
type Reply struct {
	Version int    `json:"version"`
	OK      bool   `json:"ok"`
	Code    uint   `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Details string `json:"details,omitempty"`
}

// ParseRequest reads a request as it came from the wire and refuses what the plugin could not have meant.
func ParseRequest(b []byte) (*Request, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMessage, MaxMessage)
	}
	var r Request
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%w: version %d, this end speaks %d", ErrMessage, r.Version, Version)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return &r, nil
}

// maxAddresses is far above what a pod gets: one of each family.
const maxAddresses = 64

func (r *Request) validate() error {
	switch r.Command {
	case Add, Del, Check:
		if !isToken(r.ContainerID, 256) || !isToken(r.IfName, 15) {
			return fmt.Errorf("%s without a container and an interface", r.Command)
		}
	case GC, Status:
	default:
		return fmt.Errorf("unknown command %.20q", string(r.Command))
	}
	if r.Command == Add && (!isName(r.Pod.Namespace, 63) || !isName(r.Pod.Name, 253)) {
		return errors.New("ADD without a pod's namespace and name")
	}
	if r.Pod.Namespace != "" && !isName(r.Pod.Namespace, 63) || r.Pod.Name != "" && !isName(r.Pod.Name, 253) {
		return errors.New("pod's name is none")
	}
	if r.Pod.UID != "" && !isToken(r.Pod.UID, 128) {
		return errors.New("pod's uid is none")
	}
	if len(r.NetNSPath) > 4096 || len(r.Network) > 253 {
		return errors.New("namespace path or network name too long")
	}
	if len(r.Addresses) > maxAddresses {
		return fmt.Errorf("%d addresses", len(r.Addresses))
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.Zone() != "" || a.IsUnspecified() {
			return fmt.Errorf("address %q", a)
		}
	}
	return nil
}

// ParseReply reads a reply as it came from the wire.
func ParseReply(b []byte) (*Reply, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMessage, MaxMessage)
	}
	var r Reply
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%w: version %d, this end speaks %d", ErrMessage, r.Version, Version)
	}
	return &r, nil
}

// isName reports whether s is a DNS-1123 name of at most limit bytes, as Kubernetes names are.
func isName(s string, limit int) bool {
	if s == "" || len(s) > limit || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// isToken reports whether s is printable ASCII without spaces and slashes, of at most limit bytes.
func isToken(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '/' {
			return false
		}
	}
	return true
}
