package l7

import (
	"crypto/tls"
	"net/netip"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// Recorder sees what passes. Its methods are called on the loops and must not block; records are valid during the call.
type Recorder interface {
	Request(r *RequestRecord)
	// ConnOpened and ConnClosed come in pairs, with the same labels; ConnRefused alone, for one that got nowhere.
	ConnOpened(r *ConnRecord)
	ConnClosed(r *ConnRecord)
	ConnRefused(r *ConnRecord)
	Handshake(r *HandshakeRecord)
	// Event counts what concerns no single connection that got anywhere. The pod is nil for a panic that is no accepted connection's.
	Event(p *Pod, d Direction, e Event)
}

// Direction of a connection, seen from the pod.
type Direction uint8

// The directions.
const (
	Outbound Direction = iota
	Inbound
)

func (d Direction) String() string { return [...]string{"outbound", "inbound"}[d&1] }

// Security is what protects a hop, or why nothing does.
type Security uint8

// The securities.
const (
	SecurityNone    Security = iota // not connected
	SecurityMTLS                    // mutual TLS of the mesh
	SecurityForeign                 // plain: the other end is outside the mesh
	SecuritySelf                    // plain: a pod's connection to itself never leaves it
)

func (s Security) String() string {
	return [...]string{"none", "mtls", "not_in_mesh", "self"}[s&3]
}

// Kind is what a connection turned out to speak.
type Kind uint8

// The kinds.
const (
	KindUnknown Kind = iota
	KindHTTP1
	KindHTTP2
	KindTLS // the app's own
	KindTCP
)

func (k Kind) String() string {
	names := [...]string{"unknown", "http1", "http2", "tls", "tcp"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

func (k Kind) http() bool { return k == KindHTTP1 || k == KindHTTP2 }

// Cause tells why a connection or a request failed. The zero value is success.
type Cause uint8

// The causes.
const (
	CauseNone      Cause = iota
	CauseResolve         // the Brain could not tell what the address stands for
	CauseNoReady         // there is no endpoint
	CauseConnect         // no endpoint could be connected to
	CauseHandshake       // TLS with the peer failed
	CauseIdentity        // the peer's certificate is not whose it should be
	CauseReset           // a side reset the connection
	CauseClosed          // the connection ended in mid-message
	CauseTimeout         // a time limit passed
	CauseLimit           // one of our limits was reached
	CauseRefused         // refused by policy
	CauseProtocol        // a peer broke the protocol
	CauseCancel          // the client gave up
	CauseDrain           // the pod's drain deadline passed
	CauseInternal        // our own fault
	CauseNoRoute         // the destination has routes, and none is for the request
	CauseNoBackend       // the route leads to nothing that could be used
	CauseFault           // a policy has asked for it
	CauseRate            // more requests than a policy lets in
	causes
)

var causeNames = [causes]string{"", "resolve", "no_endpoint", "connect", "handshake", "identity", "reset", "closed",
	"timeout", "limit", "refused", "protocol", "cancel", "drain", "internal", "no_route", "no_backend", "fault", "rate_limit"}

func (c Cause) String() string {
	if c < causes {
		return causeNames[c]
	}
	return "unknown"
}

// Event is something to be counted.
type Event uint8

// The events.
const (
	EventLoopback       Event = iota // somebody dialled the listener itself
	EventAcceptError                 // accept failed and was tried again
	EventConnLimit                   // a connection above Limits.Conns was reset
	EventRequestLimit                // a request above Limits.Requests was refused
	EventHandshakeLimit              // a handshake above Limits.Shakes was refused
	EventBufferLimit                 // something was refused or given up because the pod holds more bytes than Limits.Buffered
	EventPanic                       // a connection's goroutine panicked
	EventDrained                     // a pod that left had no connection any more
	EventDrainDeadline               // ... or had, and they were reset
	EventRetry                       // a request or connection was tried on another endpoint
	EventForbidden                   // a live connection was reset because it is not allowed any more
	EventRetried                     // a request was sent again because a policy says so
	EventRetryBudget                 // ... or was not, because there are too many of those already
	EventFaulted                     // a request was delayed or answered because a policy says so
	EventMirrorDropped               // a mirror did not get its copy of a request
	EventLimited                     // a request above a policy's rate was refused
	EventBroken                      // a request was refused because the breaker of every endpoint is open
	EventOverloaded                  // ... because every endpoint has as much in flight as the breaker lets
	events
)

var eventNames = [events]string{"loopback", "accept_error", "connection_limit", "request_limit", "handshake_limit", "buffer_limit", "panic", "drained",
	"drain_deadline", "retry", "forbidden", "policy_retry", "retry_budget", "fault", "mirror_dropped", "rate_limit", "broken", "overloaded"}

func (e Event) String() string {
	if e < events {
		return eventNames[e]
	}
	return "unknown"
}

// RequestRecord is one request and its response.
type RequestRecord struct {
	Direction  Direction
	Pod        *Pod
	Peer       *mesh.Pod      // the pod at the other end, nil if it is in no table
	PeerAddr   netip.AddrPort // the endpoint's, or the client's
	Service    mesh.Name      // outbound: the service dialled
	Port       uint16         // that was dialled
	Version    exchange.Version
	Status     int    // 0 without a response
	GRPC       bool   // it was gRPC,
	GRPCStatus uint32 // with this outcome
	Security   Security
	State      *tls.ConnectionState // of the mesh hop: the proof who the other end is
	Began      time.Time
	Duration   time.Duration
	BytesIn    int64 // request body
	BytesOut   int64 // response body
	Attempts   int
	Retries    int        // of these, how many a policy has asked for
	Rule       *mesh.Rule // outbound: the rule that was chosen; nil if there is none
	Backend    mesh.Name  // ... and the service that it has led to
	Fault      bool       // a policy has delayed or answered it
	Mirrored   int        // copies that were sent
	Limited    bool       // it was above a policy's rate
	Cause      Cause
	Head       *exchange.Head // of the request, as the client has sent it
	// Tag is a place of the connection's for the Recorder: what it leaves there it finds with the connection's next request. It may
	// be gone after a pause.
	Tag *any
}

// ConnRecord is one connection of an app or to an app.
type ConnRecord struct {
	Direction Direction
	Pod       *Pod
	Peer      *mesh.Pod
	PeerAddr  netip.AddrPort
	Service   mesh.Name
	Port      uint16
	Kind      Kind
	Security  Security
	SNI       string     // of the app's own TLS; chosen by a client: not for labels
	Rule      *mesh.Rule // outbound: the rule that was chosen for it, of TLSRoutes and TCPRoutes; nil if there is none
	Backend   mesh.Name  // ... and the service that it has led to
	Began     time.Time
	Duration  time.Duration
	BytesIn   int64 // from the client
	BytesOut  int64 // to the client
	Cause     Cause
	Tag       any // the Recorder's own: what ConnOpened leaves, ConnClosed finds
}

// HandshakeRecord is one TLS handshake of the mesh.
type HandshakeRecord struct {
	Direction Direction
	Pod       *Pod
	PeerAddr  netip.AddrPort
	Duration  time.Duration
	Resumed   bool
	Err       error
}

// nobody records nothing.
type nobody struct{}

func (nobody) Request(*RequestRecord)       {}
func (nobody) ConnOpened(*ConnRecord)       {}
func (nobody) ConnClosed(*ConnRecord)       {}
func (nobody) ConnRefused(*ConnRecord)      {}
func (nobody) Handshake(*HandshakeRecord)   {}
func (nobody) Event(*Pod, Direction, Event) {}
