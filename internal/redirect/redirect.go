package redirect

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -strip llvm-strip-16 -target bpfel -type fl_slot_key -type fl_mark -type fl_verdict -type fl_kind -type fl_slot -type fl_state redirect ../../bpf/redirect.bpf.c -- -mcpu=v3 -nostdinc -Wall -Werror -Wpadded -I../../bpf/headers

// Config of one instance.
type Config struct {
	BPFFS    string // mount of bpffs; default /sys/fs/bpf
	Instance string // name of the node instance, one directory below BPFFS/fairlead; default "node"
	Cgroup   string // what gets the connect programs: a cgroup2, or where one is mounted below; default: the first one mounted
	Proc     string // a procfs whose sysctls can be written; default /proc
	NetNSDir string // where the runtime binds namespaces; default /run/netns
	Probe    ProbeConfig
	Drain    time.Duration // how long a leaving pod's connections may last; default 30 s
	Log      *slog.Logger  // default: discard
}

// ProbeConfig says how the kubelet's probes are told from other connections to a pod.
type ProbeConfig struct {
	// Cgroup is the kubelet's own cgroup. Empty: probes are told by NodeAddrs and the pods' ProbePorts instead.
	Cgroup string
	// HostNetNS is the namespace that the kubelet connects from; default <Proc>/1/ns/net. It stays the caller's.
	HostNetNS *NetNS
	// NodeAddrs are used only without Cgroup.
	NodeAddrs []netip.Addr
	// FollowAddrs adds the addresses of HostNetNS to NodeAddrs, as they come and go.
	FollowAddrs bool
}

// Pod is one pod that is to be captured. Its NetNS stays the caller's.
type Pod struct {
	UID        string
	NetNS      *NetNS
	Addrs      []netip.Addr // all of them: an address that is not named here is foreign
	Guard      bool         // drop SYNs of sockets that are not ours on the pod's devices
	ProbePorts []uint16     // for probes told by the node's address
}

// Change says what a Set has done, by UIDs. A pod without a known UID is named netns:<cookie>.
type Change struct {
	Enrolled []string // newly captured, or captured again while leaving
	Updated  []string // captured before, now with other addresses, ports or guard
	Leaving  []string // no longer captured; connections drain
	Left     []string // as if never captured
}

// Redirect is one instance in the kernel.
type Redirect struct {
	cfg  Config
	dir  string
	step func(name string) error // for tests: called before each step of an enrolment or a leave

	mu        sync.Mutex // protects what follows
	objects   *objects
	pods      map[uint64]*pod
	leaving   map[uint64]*leaver
	suspended bool
	hopPort   uint32
}

func (c Config) withDefaults() (Config, error) {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.BPFFS, "/sys/fs/bpf")
	def(&c.Instance, "node")
	def(&c.Proc, "/proc")
	def(&c.NetNSDir, "/run/netns")
	if c.Instance != filepath.Base(c.Instance) || strings.ContainsAny(c.Instance[:1], "._/") {
		return c, fmt.Errorf("instance %q: not a plain name", c.Instance)
	}
	if c.Drain == 0 {
		c.Drain = 30 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Open loads the programs of an instance, or reopens its pins and brings their programs up to date. Pods of an earlier
// process stay captured, without listeners, until the first Set says what becomes of them.
// Returns ErrForeignPins if the pins cannot be used and ErrSharedCgroup if the probes' cgroup will not do.
func Open(cfg Config) (_ *Redirect, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	unlock, err := lockInstances(cfg.BPFFS)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if cfg.Cgroup, err = findCgroup2(cfg.Proc, cfg.Cgroup); err != nil {
		return nil, err
	}

	r := &Redirect{
		cfg:     cfg,
		dir:     instanceDir(cfg),
		pods:    map[uint64]*pod{},
		leaving: map[uint64]*leaver{},
		hopPort: rand.Uint32(), // not where the process before began: its connections may still be there
	}
	r.objects, err = openObjects(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.updatePodPrograms(); err != nil {
		return nil, errors.Join(err, r.objects.close())
	}
	return r, nil
}

// Close releases what the process holds and leaves everything in force. Listeners that nobody else holds end here.
func (r *Redirect) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for cookie, p := range r.pods {
		errs = append(errs, p.close())
		delete(r.pods, cookie)
	}
	for cookie, l := range r.leaving {
		errs = append(errs, l.close())
		delete(r.leaving, cookie)
	}
	return errors.Join(append(errs, r.objects.close())...)
}

// Verdicts returns how often each decision was taken, by the decision's name, over all CPUs.
func (r *Redirect) Verdicts() (map[string]uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[string]uint64, len(r.objects.verdicts))
	for i, name := range r.objects.verdicts {
		var perCPU []uint64
		if err := r.objects.maps.FlVerdicts.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read verdict %s: %w", name, err)
		}
		for _, n := range perCPU {
			counts[name] += n
		}
	}
	return counts, nil
}

func isNotFound(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }
