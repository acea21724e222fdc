package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
)

// NetNS is an open network namespace.
type NetNS interface {
	Cookie() uint64               // its number, which no other has until the machine restarts
	Addrs() ([]netip.Addr, error) // of its devices, but for loopback and link-local ones
	FD() int
	Close() error
}

// Capture is a pod as the kernel's side wants it.
type Capture struct {
	UID        string
	NetNS      NetNS
	Addrs      []netip.Addr
	ProbePorts []uint16
}

// Redirect is the kernel's side. Kernel makes the real one.
type Redirect interface {
	OpenNetNS(path string) (NetNS, error)
	AdoptNetNS(fd int) (NetNS, error) // takes fd over, on an error too
	// Set makes exactly these pods captured. A pod that fails does not keep the others from it.
	Set([]Capture) error
	// Listeners returns duplicates of a captured pod's listeners, none while suspended. socket.ErrUnknownPod if it is not captured.
	Listeners(uid string) ([]socket.Listener, error)
	Suspend() error
	Resume() error
	Sockets(uid string, family, n int) ([]int, error)
	HopSocket(uid string, client netip.Addr) (int, error)
	Verdicts() (map[string]uint64, error)
	// Earlier counts the connections that captured pods have had since before that. What fails for one pod leaves it out.
	Earlier(ctx context.Context, uids []string) (map[string]socket.Earlier, error)
	Others() ([]string, error) // programs that are not ours and see every connect()
	// Sweep ends the drains of pods that have left, and follows what the probes are told by. It is called now and then.
	Sweep() error
}

// Controller is the stream of this node's pods; *control.PodsClient is one.
type Controller interface {
	Assignment() *control.Assignment
	Changed() <-chan struct{}
	SetCaptured(seen uint64, captured map[string][]netip.Addr)
	Connected() bool
	Run(context.Context) error
}

// Issuer gets certificates, with a token if the keeper has no certificate yet, and the roots.
type Issuer func(ctx context.Context, token string, requests []control.CertificateRequest) ([]control.Issued, []byte, error)

// Config of a Keeper. All fields without a default are needed.
type Config struct {
	Node        string
	Bundle      *identity.Bundle // the roots to begin with
	Redirect    Redirect
	Connect     func(own identity.Source) (Controller, Issuer) // Control makes the real one
	Token       func() (string, error)                         // the bearer token for the first certificate
	StateDir    string                                         // on disk
	KeysDir     string                                         // on a tmpfs
	ProxySocket string
	CNISocket   string
	ProxyUID    int
	AllowRoot   bool   // a proxy of uid 0 is spoken to: for tests
	Proc        string // the host's procfs; default /proc
	NetNSDir    string // where the runtime binds namespaces; default /run/netns

	Away    time.Duration // how long connections wait for a proxy; default 10 s
	Linger  time.Duration // how long Run goes on for a proxy that is still here when it is to end
	AddWait time.Duration // how long an ADD waits for the controller to name its pod; default 2 s

	OthersEvery time.Duration // how often it is looked for programs of others; default 30 s
	// EarlierEvery is how often connections are counted that a pod has had since before its capture; default 10 s.
	EarlierEvery time.Duration
	// Roots reads the roots anew, where something else than the controller brings them too; nil without. They count while
	// the controller cannot be reached: it may be there, by roots that this keeper has not heard of.
	Roots func() ([]byte, error)
	// Beside runs as long as this keeper is the one that decides.
	Beside func(context.Context) error
	// Gauges are passed on with the counters.
	Gauges func() map[string]uint64
	Log    *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.NetNSDir == "" {
		c.NetNSDir = "/run/netns"
	}
	if c.Away == 0 {
		c.Away = 10 * time.Second
	}
	if c.AddWait == 0 {
		c.AddWait = 2 * time.Second
	}
	if c.OthersEvery <= 0 {
		c.OthersEvery = 30 * time.Second
	}
	if c.EarlierEvery <= 0 {
		c.EarlierEvery = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Keeper is the privileged process.
type Keeper struct {
	cfg        Config
	controller Controller
	keys       *keyring
	owner      *owner
	proxy      *socket.Server
	plugin     *cni.Server // since it is this keeper's turn
	counters   counters
	sockets    *limits       // by pod
	wake       chan struct{} // something is to be tried again
	away       chan struct{} // the last proxy has gone
	served     chan struct{} // a proxy serves
	joined     chan struct{} // a pod was captured that may have connections from before
	ending     atomic.Bool   // Run is to end
	saving     sync.Mutex    // held while the state is written
	state      state         // at is protected by saving

	mu         sync.Mutex // protects the rest
	records    map[uint64]*record
	assignment *control.Assignment // in force; nil before the first of this process
	namespaces map[string]bool
	turn       bool          // this keeper decides, or has
	blind      bool          // which pods are captured is not known: nothing is put in force before the first assignment
	assigned   chan struct{} // closed at the next assignment
	proxies    map[socket.Handler]bool
	serving    map[socket.Handler]bool // those that could take pods over
	awaySince  time.Time               // no proxy since; zero while there is one
	suspended  bool
	unsaved    bool
	others     []string // programs that are not ours and see every connect()
	dirty      bool     // something is not in force yet: try again

	othersFailed  bool // the last look for others has failed
	earlierFailed bool // and the last one for connections from before
}

// Open makes a keeper. If no other one lives on this node, it puts in force what is on disk.
func Open(cfg Config) (*Keeper, error) {
	cfg = cfg.withDefaults()
	k := &Keeper{
		cfg:       cfg,
		sockets:   newLimits(socketRate, socketBurst),
		wake:      make(chan struct{}, 1),
		away:      make(chan struct{}, 1),
		served:    make(chan struct{}, 1),
		joined:    make(chan struct{}, 1),
		state:     state{limit: rate.NewLimiter(stateRate, stateBurst)},
		records:   map[uint64]*record{},
		assigned:  make(chan struct{}),
		proxies:   map[socket.Handler]bool{},
		serving:   map[socket.Handler]bool{},
		awaySince: time.Now(),
	}
	if err := makeDirs(cfg.StateDir, cfg.KeysDir); err != nil {
		return nil, err
	}
	var err error
	if k.owner, err = join(cfg.StateDir); err != nil {
		return nil, err
	}
	k.keys = newKeyring(cfg, k.certified, k.trust)
	k.controller, k.keys.issue = cfg.Connect(k.keys)
	k.keys.load()
	k.proxy = socket.NewServer(socket.ServerConfig{Path: cfg.ProxySocket, UID: cfg.ProxyUID, AllowRoot: cfg.AllowRoot, Keeper: (*proxyCalls)(k), Log: cfg.Log})
	k.lookForOthers()
	others, err := k.owner.others()
	if err == nil && !others {
		err = k.takeTurn()
	}
	if err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// Run keeps until ctx ends, and after that for its proxy's sake, at most Config.Linger. What is in force stays in force.
func (k *Keeper) Run(ctx context.Context) error {
	inner, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group, inner := errgroup.WithContext(inner)
	group.Go(func() error { return k.keys.run(inner) })
	group.Go(func() error { return k.proxy.Run(inner) })
	group.Go(func() error { return k.turns(inner) })
	group.Go(func() error { return k.watchRoots(inner) })
	group.Go(func() error {
		select {
		case <-inner.Done():
		case <-ctx.Done():
			k.linger(inner)
			end()
		}
		return nil
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, k.close())
}

// close lets go of the pods' namespaces and of the state directory.
func (k *Keeper) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	errs := []error{k.owner.file.Close()}
	if k.plugin != nil {
		_ = k.plugin.Close() // which Run has done, if it ran
	}
	for _, r := range k.records {
		errs = append(errs, r.netns.Close())
	}
	k.records = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
