package node

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

// pods turns the keeper's events into the engine's desired state. It implements socket.Handler, whose calls come
// one at a time.
type pods struct {
	creds   *credentials
	sockets *socketPool
	log     *slog.Logger

	mu sync.Mutex // protects the rest
	m  map[string]*l7.Pod
	// certified are the accounts that it has sent a certificate of since then.
	certified map[mesh.Account]bool
	earlier   map[string]socket.Earlier // connections from before the capture, by pod, where there are any
	told      map[string]bool           // pods that the keeper has named since the connection began; nil once it is synced
	engine    *l7.Engine                // nil until start
	backends  *backends                 // told what others do at connect()
	synced    bool                      // the keeper has told everything, and is there
	since     time.Time                 // when it told that a later keeper has listeners of its own; zero if it has not
}

// drain is how long a pod's connections may last once it has left, where the keeper does not say.
const drain = 30 * time.Second

var _ socket.Handler = (*pods)(nil)

func newPods(creds *credentials, sockets *socketPool, log *slog.Logger) *pods {
	return &pods{creds: creds, sockets: sockets, log: log, m: map[string]*l7.Pod{}, earlier: map[string]socket.Earlier{}}
}

// begin is called before the events of a new connection to the keeper.
func (p *pods) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told, p.certified, p.since = map[string]bool{}, map[mesh.Account]bool{}, time.Time{}
}

// lost is called when a connection to the keeper has ended.
func (p *pods) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = false
}

// Superseded notes that another proxy is given what is new.
func (p *pods) Superseded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		p.since = time.Now()
		p.log.Info("a later keeper has taken over: what is new goes to its proxy")
	}
}

// superseded tells since when; zero if there is no successor.
func (p *pods) superseded() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since
}

// isSynced tells whether the proxy has the listeners of all pods that are captured.
func (p *pods) isSynced() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.synced
}

// Synced lets the pods go that left while the keeper was away.
func (p *pods) Synced() {
	p.mu.Lock()
	var gone []string
	for uid := range p.m {
		if p.told != nil && !p.told[uid] {
			gone = append(gone, uid)
		}
	}
	if p.told != nil {
		p.creds.keep(p.certified)
	}
	p.told, p.certified = nil, nil
	p.synced = true
	p.mu.Unlock()
	for _, uid := range gone {
		p.Left(uid, drain)
	}
}

// start gives the engine what has been announced, and everything from now on.
func (p *pods) start(e *l7.Engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine = e
	p.set()
}

// set is called with mu held.
func (p *pods) set() {
	if p.engine == nil {
		return
	}
	all := make([]*l7.Pod, 0, len(p.m))
	for _, pod := range p.m {
		all = append(all, pod)
	}
	p.engine.Set(all)
}

// name is the name of a local pod.
func (p *pods) name(uid string) (mesh.Name, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pod := p.m[uid]
	if pod == nil {
		return mesh.Name{}, false
	}
	return pod.Name, true
}

// Enrolled adds a pod, or replaces its listeners.
func (p *pods) Enrolled(sp socket.Pod, ls []socket.Listener) {
	pod := &l7.Pod{UID: sp.UID, Name: sp.Name, Account: sp.Account, Addrs: sp.Addrs, Drain: drain}
	for _, l := range ls {
		nl, err := listener(l.FD)
		if err != nil {
			p.log.Error("listener of the keeper cannot be used", "pod", sp.Name.String(), "err", err)
			continue
		}
		if l.Direction == socket.Out {
			pod.Out = append(pod.Out, nl)
		} else {
			pod.In = append(pod.In, nl)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pod.Tag = &podCounters{}
	if old := p.m[sp.UID]; old != nil {
		pod.Tag = old.Tag
		if p.engine == nil {
			closeListeners(old)
		}
	}
	p.m[sp.UID] = pod
	delete(p.earlier, sp.UID) // the keeper tells anew
	p.sockets.keep(sp.UID)
	if p.told != nil {
		p.told[sp.UID] = true
	}
	p.set()
	p.log.Info("pod enrolled", "pod", sp.Name.String(), "uid", sp.UID, "listeners", len(ls))
}

// Left takes a pod out; its connections have until drain has passed. Without a drain the pod has gone, and may have left before.
func (p *pods) Left(uid string, drain time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pod := p.m[uid]
	if pod == nil {
		if drain == 0 && p.engine != nil {
			p.engine.Gone(uid)
		}
		return
	}
	delete(p.m, uid)
	delete(p.earlier, uid)
	pod.Drain = drain
	if p.engine == nil {
		closeListeners(pod)
	}
	p.set()
	p.sockets.drop(uid)
	p.log.Info("pod left", "pod", pod.Name.String(), "uid", uid, "drain", drain)
}

// Earlier notes how many connections a pod has that go round the proxy, because they are older than its capture.
func (p *pods) Earlier(uid string, e socket.Earlier) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[uid] != nil {
		p.earlier[uid] = e
	}
}

// earlierOf is what Earlier has noted.
func (p *pods) earlierOf(uid string) socket.Earlier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.earlier[uid]
}

// list gives the pods that are here.
func (p *pods) list() []*l7.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.m))
}

// pod gives one of them; nil if it is not here.
func (p *pods) pod(uid string) *l7.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m[uid]
}

// accounts are those of the pods that are here.
func (p *pods) accounts() map[mesh.Account]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	live := map[mesh.Account]bool{}
	for _, pod := range p.m {
		live[pod.Account] = true
	}
	return live
}

// close gives up every pod. It comes when nothing runs any more: what the engine was given it has closed, and the
// rest is closed here.
func (p *pods) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, pod := range p.m {
		closeListeners(pod)
		p.sockets.drop(uid)
	}
}

// Certificate replaces an account's certificate.
func (p *pods) Certificate(c socket.Certificate) {
	p.mu.Lock()
	if p.certified != nil && len(c.Chain) > 0 {
		p.certified[c.Account] = true
	}
	p.mu.Unlock()
	if err := p.creds.setCertificate(c); err != nil {
		p.log.Error("certificate cannot be used", "account", c.Account.String(), "err", err)
	}
}

// Roots replaces the roots.
func (p *pods) Roots(trustDomain string, pem []byte) {
	if err := p.creds.setRoots(trustDomain, pem); err != nil {
		p.log.Error("roots cannot be used", "err", err)
	}
}

// listener takes a descriptor over.
func listener(fd int) (net.Listener, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("set listener non-blocking: %w", err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use listener: %w", err)
	}
	return l, nil
}

func closeListeners(p *l7.Pod) {
	for _, l := range slices.Concat(p.Out, p.In) {
		l.Close()
	}
}
