// Package socket is the protocol between the keeper and its proxy: binary messages on a SOCK_SEQPACKET
// unix socket, with file descriptors by SCM_RIGHTS. The keeper serves, the proxy calls.
//
// The keeper is privileged and the proxy parses bytes from the network, so the keeper trusts nothing that
// arrives here. Promises:
//  1. No message enrols a pod, ends an enrolment, or hands a key out: there is none.
//  2. Every message is bounded by MaxMessage, every field by its own limit, and what does not parse ends the connection.
//  3. Requests in flight, queued replies, queued descriptors and connections are bounded; a proxy that reads
//     nothing is disconnected, and nobody else waits for it.
//  4. A descriptor that was received or queued is closed on every path that does not hand it over.
//  5. Only a peer with the configured uid is spoken to; uid 0 only where the configuration says so.
//  6. Nothing runs outside of Server.Run and Client.Run; when they return, their goroutines are gone.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// Version is the version of the protocol. Both ends send theirs first, and end the connection if they differ.
const Version = 3

// MaxMessage is the size in bytes of the largest message.
const MaxMessage = 64 << 10

// MaxBatch is the largest number of sockets that one request asks for.
const MaxBatch = 64

// MaxInFlight is the number of requests that a client has under way at once; more wait for a slot.
const MaxInFlight = 256

// The errors that a call returns for the keeper's reasons.
var (
	// ErrUnknownPod says that no such pod is enrolled on this node.
	ErrUnknownPod = errors.New("pod is not enrolled here")
	// ErrUnknownAccount says that the account has no live pod here, or no certificate yet.
	ErrUnknownAccount = errors.New("account has no live pod here")
	// ErrLimited says that the pod or account asked for too much in too short a time.
	ErrLimited = errors.New("rate limit")
	// ErrNoState says that the keeper has no last good state.
	ErrNoState = errors.New("no saved state")
	// ErrClosed says that the connection has ended.
	ErrClosed = errors.New("connection to the keeper has ended")
)

// Direction says which connections a listener takes.
type Direction uint8

// The directions, from the pod's point of view.
const (
	Out Direction = 1
	In  Direction = 2
)

func (d Direction) String() string {
	switch d {
	case Out:
		return "out"
	case In:
		return "in"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// Listener is a listening socket inside a pod. Whoever is handed one closes its FD.
type Listener struct {
	Direction Direction
	Family    int // 4 or 6
	FD        int
}

// Pod is an enrolled pod of this node.
type Pod struct {
	UID     string
	Name    mesh.Name
	Account mesh.Account
	Addrs   []netip.Addr
}

// Earlier is how many connections of a pod are older than its capture, and so outside of the mesh until they end.
type Earlier struct {
	Connections int
	More        bool // there may be more: not all was looked at
}

// Certificate is the chain of one account of this node, leaf first, in DER. Its key stays with the keeper. Without a chain
// it says that the key is gone.
type Certificate struct {
	Account  mesh.Account // zero: the proxy's own
	Chain    [][]byte
	NotAfter time.Time
}

// Handler takes the keeper's events, one at a time and in their order.
type Handler interface {
	// Enrolled is called again when the listeners were made anew: the new ones replace the old. The handler owns the descriptors.
	Enrolled(Pod, []Listener)
	// Left says that the pod leaves the mesh; connections that live have drain to end. With 0 the pod has gone, be it that it
	// had left before: there is nobody any more whose connections could end well.
	Left(uid string, drain time.Duration)
	// Certificate replaces the account's certificate.
	Certificate(Certificate)
	// Roots replaces the trust domain's roots, in PEM.
	Roots(trustDomain string, pemBundle []byte)
	// Others names the programs that are not ours and see every connect(): one of them may put another address in place of
	// a service's.
	Others(programs []string)
	// Earlier says how many connections a pod has from before its capture. Until it is called for a pod, and after each Enrolled,
	// it has none that are known of.
	Earlier(uid string, e Earlier)
	// Synced says that everything has been told since the connection began: a pod that was not is not enrolled any more.
	Synced()
	// Superseded says that a later keeper has listeners of its own in the pods: on these there is only left what came before.
	Superseded()
}

// Violation is a breach of the protocol. It ends the connection and is counted by its kind.
type Violation struct {
	Kind string // one of the constants below
	Err  error
}

// The kinds of violation, and of refusal before the first message.
const (
	UnknownType    = "unknown_type"    // no such message
	Oversized      = "oversized"       // longer than MaxMessage, or control data that did not fit
	Malformed      = "malformed"       // a field out of bounds, or bytes left over
	Descriptors    = "descriptors"     // descriptors where none belong, or not the number that belongs
	Flood          = "flood"           // more requests in flight than any client of ours sends
	BadGreeting    = "greeting"        // no greeting, or of another version
	BadCredentials = "credentials"     // the peer's uid is not the proxy's
	Crowd          = "crowd"           // a proxy and its successor are here already
	Slow           = "slow"            // the peer does not read what it is sent
	BadContent     = "signing_content" // asked to sign what is no TLS 1.3 CertificateVerify
	BadState       = "state"           // state too large, not sealed, or not signed by the controller
)

// Kinds lists all kinds, for counters.
var Kinds = []string{UnknownType, Oversized, Malformed, Descriptors, Flood, BadGreeting, BadCredentials, Crowd, Slow, BadContent, BadState}

func (v *Violation) Error() string {
	if v.Err == nil {
		return "protocol violation: " + v.Kind
	}
	return "protocol violation: " + v.Kind + ": " + v.Err.Error()
}

func (v *Violation) Unwrap() error { return v.Err }

func violate(kind string, format string, args ...any) error {
	return &Violation{Kind: kind, Err: fmt.Errorf(format, args...)}
}
