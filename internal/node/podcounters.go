package node

import (
	"cmp"
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// peersMax bounds the peers that one pod is counted with. The rest is counted as one.
const peersMax = 256

// podCounters count what passes one local pod. Metrics have no label for a pod, because pods come and go; these are
// for people who look. They hang on the engine's pod, so that no request looks for them. The zero value is ready.
type podCounters struct {
	flows [2]podFlow // by l7.Direction

	mu    sync.RWMutex // protects peers
	peers map[peerKey]*peerCounters
}

type podFlow struct {
	requests, failures     atomic.Uint64
	nanos                  atomic.Int64 // sum of the durations
	latency                [len(debug.Buckets) + 1]atomic.Uint64
	tcpOpened, bytes, sent atomic.Uint64
	open                   atomic.Int64
}

// peerKey is somebody that a pod has to do with.
type peerKey struct {
	uid       string // "" for whoever is in no table
	direction l7.Direction
	safe      l7.Security
	overflow  bool
}

type peerCounters struct {
	requests, failures, tcpOpened atomic.Uint64
	open                          atomic.Int64
	last                          atomic.Int64 // unix nanoseconds
	pod                           atomic.Pointer[mesh.Pod]
	state                         atomic.Pointer[tls.ConnectionState] // of the last request by mutual TLS
}

// countersOf is nil for a pod that is not counted.
func countersOf(p *l7.Pod) *podCounters {
	if p == nil {
		return nil
	}
	c, _ := p.Tag.(*podCounters)
	return c
}

// request counts a request that ended.
func (f *podFlow) request(r *l7.RequestRecord, failed bool) {
	f.requests.Add(1)
	if failed {
		f.failures.Add(1)
	}
	f.nanos.Add(int64(r.Duration))
	f.latency[bucket(r.Duration)].Add(1)
}

func (p *peerCounters) request(r *l7.RequestRecord, failed bool, now time.Time) {
	p.requests.Add(1)
	if failed {
		p.failures.Add(1)
	}
	if r.State != nil && p.state.Load() != r.State {
		p.state.Store(r.State)
	}
	p.last.Store(now.UnixNano())
}

// opened counts a connection, and returns where its end is to be counted.
func (c *podCounters) opened(r *l7.ConnRecord) *peerCounters {
	f, p := &c.flows[r.Direction&1], c.peer(r.Peer, r.Direction, r.Security)
	f.tcpOpened.Add(1)
	f.open.Add(1)
	p.tcpOpened.Add(1)
	p.open.Add(1)
	p.last.Store(r.Began.UnixNano())
	return p
}

func (c *podCounters) closed(r *l7.ConnRecord, p *peerCounters) {
	f := &c.flows[r.Direction&1]
	f.open.Add(-1)
	f.bytes.Add(uint64(max(r.BytesIn, 0)))
	f.sent.Add(uint64(max(r.BytesOut, 0)))
	if p != nil {
		p.open.Add(-1)
		p.last.Store(r.Began.Add(r.Duration).UnixNano())
	}
}

// bucket is the place of a duration among the latencies.
func bucket(d time.Duration) int {
	s := d.Seconds()
	for i, bound := range debug.Buckets {
		if s <= bound {
			return i
		}
	}
	return len(debug.Buckets)
}

func (c *podCounters) peer(pod *mesh.Pod, d l7.Direction, safe l7.Security) *peerCounters {
	key := peerKey{direction: d & 1, safe: safe & 3}
	if pod != nil {
		key.uid = pod.UID
	}
	c.mu.RLock()
	p := c.peers[key]
	c.mu.RUnlock()
	if p == nil {
		p = c.addPeer(key)
	}
	if pod != nil && p.pod.Load() != pod {
		p.pod.Store(pod) // the row as it is now
	}
	return p
}

func (c *podCounters) addPeer(key peerKey) *peerCounters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.peers) >= peersMax && c.peers[key] == nil {
		key.uid, key.overflow = "", true
	}
	p := c.peers[key]
	if p == nil {
		p = &peerCounters{}
		if c.peers == nil {
			c.peers = map[peerKey]*peerCounters{}
		}
		c.peers[key] = p
	}
	return p
}

// expire forgets the peers that nothing has passed with for seriesIdle.
func (c *podCounters) expire(now time.Time) {
	if c == nil {
		return
	}
	old := now.Add(-seriesIdle).UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, p := range c.peers {
		if p.open.Load() == 0 && p.last.Load() < old {
			delete(c.peers, key)
		}
	}
}

// traffic is one direction, for people who look.
func (c *podCounters) traffic(d l7.Direction) debug.Traffic {
	f := &c.flows[d]
	t := debug.Traffic{
		Requests: f.requests.Load(), Failures: f.failures.Load(), Seconds: time.Duration(f.nanos.Load()).Seconds(),
		Latency: make([]uint64, len(f.latency)),
		Opened:  f.tcpOpened.Load(), Open: f.open.Load(), Received: f.bytes.Load(), Sent: f.sent.Load(),
	}
	for i := range f.latency {
		t.Latency[i] = f.latency[i].Load()
	}
	return t
}

// edges are the peers, the most used first.
func (c *podCounters) edges() []debug.Edge {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]debug.Edge, 0, len(c.peers))
	for key, p := range c.peers {
		e := debug.Edge{
			Direction: key.direction.String(), TLS: key.safe.String(), Peer: p.peer(key),
			Requests: p.requests.Load(), Failures: p.failures.Load(), Opened: p.tcpOpened.Load(), Open: p.open.Load(),
			Last: time.Unix(0, p.last.Load()).UTC(),
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b debug.Edge) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Direction, b.Direction),
			cmp.Compare(a.Peer.Namespace, b.Peer.Namespace), cmp.Compare(a.Peer.Name, b.Peer.Name), cmp.Compare(a.TLS, b.TLS))
	})
	return all
}

func (p *peerCounters) peer(key peerKey) debug.Peer {
	if key.overflow {
		return debug.Peer{Namespace: overflowName, Name: overflowName, Workload: overflowName}
	}
	var peer debug.Peer
	if pod := p.pod.Load(); pod != nil {
		peer = debug.Peer{Namespace: pod.Name.Namespace, Name: pod.Name.Name, Workload: pod.Workload, Account: pod.Account.Name, Node: pod.Node}
	}
	if key.safe == l7.SecurityMTLS {
		peer.Identity = identityOf(p.state.Load())
	}
	return peer
}
