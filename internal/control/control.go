// Package control is the streams between the controller and the nodes: the server, the clients of keeper and
// proxy, and one .proto. What the world is made of comes from elsewhere (World).
//
// Promises:
//  1. Nobody is told, or signed, anything for a node but by the proof of being that node: a bearer token for the
//     first Issue, the node's name in a certificate afterwards.
//  2. A pod is announced as in the mesh only after its node has reported the capture, and is released only after
//     every connected proxy has acknowledged that it is not, or after Config.Leave.
//  3. After a start, proxies keep what they have until the keepers have reported (or Config.WarmUp), so that a
//     restart of the controller takes no pod out of the mesh.
//  4. A stream holds at most one message for its receiver; a slow one gets the newest state, not the history.
//  5. Clients keep their last good state while they reconnect, and a state that is restored from bytes was signed
//     by the controller for this node.
package control

import (
	"net/netip"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// World is what the server serves. It is safe for concurrent use.
type World interface {
	// Version is of the last change, and grows across restarts too.
	Version() uint64
	// Changed is closed at the next change. Get it before reading what may change.
	Changed() <-chan struct{}
	// Delta is what changed after a version, endpoints only of the services that are wanted; the whole, with Reset
	// set, for a version too old to tell.
	Delta(since uint64, wanted func(mesh.Name) bool) mesh.Delta
	// Endpoints are a service's; nil if there are none.
	Endpoints(mesh.Name) *mesh.Endpoints
	// Routes are the rules for a service's traffic; nil if there are none. Delta has them with the endpoints.
	Routes(mesh.Name) *mesh.Routes
	// Enrolments are a node's pods, and the version at which they last changed.
	Enrolments(node string) ([]mesh.Enrolment, uint64)
	// Namespaces are all that are known, with whether they are enrolled, and the version of their last change.
	Namespaces() (map[string]bool, uint64)
	// Live tells whether a node has a pod of the account that is in the mesh or is to be.
	Live(node string, a mesh.Account) bool
	// SetCaptured says what a node has captured, having seen the enrolments of a version.
	SetCaptured(node string, seen uint64, captured map[string][]netip.Addr)
	// Unheard are the nodes with pods to enrol that have not reported since the start.
	Unheard() []string
	// Leaving are the captured pods that have left, with the version that announces it; Release lets one go.
	Leaving() map[string]uint64
	Release(uid string)
}

// Limits of what is believed of a peer.
const (
	maxRequests      = 256     // certificate requests in one call
	maxCaptured      = 4096    // pods of one node
	maxAddrs         = 16      // addresses of one pod
	maxSubscriptions = 8192    // services of one proxy
	maxName          = 253     // bytes of a name
	maxChain         = 8       // certificates of a signer
	maxUp            = 4 << 20 // bytes of a message to the controller
	maxDown          = 256 << 20
)

const (
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)
