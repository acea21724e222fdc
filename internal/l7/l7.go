// Package l7 is the engine of the proxy: it accepts the connections of the node's pods, finds out what they speak, and
// forwards them, request by request where it is HTTP, to the endpoint that it chooses.
//
// Promises:
//  1. What a connection is, is decided by its bytes and by what was declared; an address decides only how long to wait.
//     Without bytes nothing waits longer than Limits.Detect before both sides may speak.
//  2. Bytes, half-closes and resets of opaque connections pass through one to one, in both directions.
//  3. A request is sent again only if the endpoint certainly has not acted on it, and only to another endpoint or on
//     another connection; or if a policy says so, within its budget, and as long as all of its body is kept.
//  4. Set takes the whole desired state. A pod that leaves is drained until its deadline, then reset, and both are counted.
//  5. A panic ends the connection that it came from, and nothing else.
//  6. What a pod's connections make us keep is bounded by Limits.Buffered; its other connections are served meanwhile.
//  7. Copies for mirrors neither wait for the request that they are of nor keep it waiting, and are bounded by Limits.Copies.
//  8. Run returns when every goroutine, connection and listener of the engine has ended.
package l7

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
)

// The application protocols of the mesh.
const (
	ALPNHTTP = "fairlead-h2/1"
	ALPNTCP  = "fairlead-tcp/1"
)

// Config of an Engine.
type Config struct {
	Loops    int // GOMAXPROCS
	Log      *slog.Logger
	Brain    Brain
	Recorder Recorder // nothing is recorded without one
	Rates    Rates    // requests have no rate without one
	Limits   Limits
}

// Limits bound what a connection may cost. A zero field means its default.
type Limits struct {
	Detect      time.Duration // how long the first bytes are waited for before both sides may speak: 20 ms
	Handshake   time.Duration // a TLS handshake; the key may be behind a slow signer: 10 s
	Patience    time.Duration // how much longer a client is waited for where clients have spoken HTTP: 1 s
	Hello       time.Duration // the wait for a mesh peer's ClientHello, and for the rest of one that has begun: 1 s
	Connect     time.Duration // one attempt to connect: 5 s
	Resolve     time.Duration // Brain.Outbound: 5 s
	Attempts    int           // endpoints that are tried for one connection or request: 3
	Idle        time.Duration // an HTTP connection without a request: 5 min
	PoolIdle    time.Duration // an upstream HTTP connection without a request: 1 min
	TCPIdle     time.Duration // an opaque connection without a byte: for ever
	Learnt      int           // destinations per pod whose protocol is remembered: 1024
	Replay      int           // request body bytes kept to send a request again: 64 KiB
	Conns       int64         // connections per pod and direction: 10000
	Requests    int64         // requests in flight per pod and direction: 10000
	Copies      int64         // copies for mirrors in flight per pod: 256
	Buffered    int64         // bytes that the connections of a pod may make us keep, per direction: 64 MiB
	BufferedAll int64         // ... and those of all pods: half of GOMEMLIMIT, or 512 MiB without one
	Shakes      int           // handshakes that a pod answers in a second, twice as many at once: 1000
	HTTP        exchange.Limits
}

func (l Limits) withDefaults() Limits {
	fill(&l.Detect, 20*time.Millisecond)
	fill(&l.Handshake, 10*time.Second)
	fill(&l.Patience, time.Second)
	fill(&l.Hello, time.Second)
	fill(&l.Connect, 5*time.Second)
	fill(&l.Resolve, 5*time.Second)
	fill(&l.Attempts, 3)
	fill(&l.Idle, 5*time.Minute)
	fill(&l.PoolIdle, time.Minute)
	fill(&l.Learnt, 1024)
	fill(&l.Replay, 64<<10)
	fill(&l.Conns, 10000)
	fill(&l.Requests, 10000)
	fill(&l.Copies, 256)
	fill(&l.Buffered, 64<<20)
	all := int64(512 << 20)
	if m := debug.SetMemoryLimit(-1); m < math.MaxInt64 { // -1 only asks
		all = m / 2
	}
	fill(&l.BufferedAll, all)
	fill(&l.Shakes, 1000)
	l.HTTP = l.HTTP.WithDefaults()
	return l
}

func fill[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Pod is an enrolled pod and the listeners inside it. The engine owns the listeners from Set on.
type Pod struct {
	UID     string
	Name    mesh.Name
	Account mesh.Account
	Addrs   []netip.Addr
	Out, In []net.Listener
	Drain   time.Duration // how long its connections may last once it has left
	Tag     any           // the Recorder's own
}

func (p *Pod) listeners() []net.Listener {
	return append(append([]net.Listener(nil), p.Out...), p.In...)
}

// Has tells whether a is one of the pod's addresses.
func (p *Pod) Has(a netip.Addr) bool {
	for _, own := range p.Addrs {
		if own == a {
			return true
		}
	}
	return false
}

// Brain decides. Its methods are called from many goroutines.
type Brain interface {
	// Outbound tells what an address stands for. It may wait for endpoints until ctx ends.
	Outbound(ctx context.Context, p *Pod, dst netip.AddrPort) (*Destination, error)
	// Moved tells whether the address of a destination stands for something else by now. It never waits.
	Moved(d *Destination) bool
	// Origin tells who a peer address is. It never waits.
	Origin(p *Pod, peer netip.AddrPort) Origin
	// Dial connects from inside the pod, past the redirect.
	Dial(ctx context.Context, p *Pod, dst netip.AddrPort) (*net.TCPConn, error)
	// DialApp connects to the pod's own app, as the client if it can.
	DialApp(ctx context.Context, p *Pod, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error)
	// ClientTLS and ServerTLS give the configurations of handshakes, each for one; they verify the peer, also where a
	// session is resumed. ServerTLS must offer both ALPNs.
	ClientTLS(p *Pod, e *balance.Endpoint, alpn string) (*tls.Config, error)
	ServerTLS(p *Pod, peer netip.AddrPort) (*tls.Config, error)
	// Authorize is asked before anything of an inbound connection reaches the app. It never waits. It is asked
	// without TLS as soon as a connection has come: what it refuses then may still turn out to be mutual TLS, and it
	// is asked again. ErrUndecided says that it cannot tell yet.
	Authorize(a *Arrival) error
	Policies
	// Decided waits until Authorize can tell about the pod, until ctx ends.
	Decided(ctx context.Context, p *Pod)
}

// Destination is what a dialled address stands for: a Cluster, or one Endpoint that is dialled as it is.
type Destination struct {
	Addr     netip.AddrPort
	Service  mesh.Name // zero for an address that is no service's
	Port     mesh.Port
	Cluster  *balance.Cluster
	Endpoint *balance.Endpoint
	Mapped   bool // Addr is an endpoint's, and was taken for its Service
	// Routes are the rules for the calling pod's traffic to the service's port; nil for an address that is no service's.
	Routes *routing.Live
}

// Origin is what is known of a peer's address.
type Origin struct {
	Pod  *mesh.Pod // nil if the address is in no table
	Node string
	Mesh bool // speaks mutual TLS to us
}

// Arrival is an inbound connection, as far as it is known when it has to be decided on.
type Arrival struct {
	Pod    *Pod
	Peer   netip.AddrPort
	Origin Origin
	Port   uint16
	TLS    *tls.ConnectionState // nil for plaintext
	Client any                  // the Brain's own; nil for plaintext
	Opaque bool                 // its bytes are no requests that are asked about one by one
	Count  bool                 // the answer is acted on, and to be counted
}
