// Package mesh holds the nouns of the mesh: accounts, pods, services, endpoints and the immutable
// Snapshot that every decision is made from. It is pure: standard library only, no clock, no I/O.
//
// Promises:
//  1. A Snapshot never changes. Apply makes a new one and shares what did not change.
//  2. Values handed to Apply belong to the Snapshot afterwards; the caller does not touch them again.
//  3. An address belongs to at most one pod: the pod that was applied last.
package mesh

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// Account is a Kubernetes service account, the unit of identity.
type Account struct{ Namespace, Name string }

func (a Account) String() string { return a.Namespace + "/" + a.Name }

// LogValue makes an account one word in the log, as everywhere else.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Name is a namespaced object's name.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// LogValue makes a name one word in the log.
func (n Name) LogValue() slog.Value { return slog.StringValue(n.String()) }

// Pod is one row of the address table.
type Pod struct {
	UID      string
	Name     Name
	Account  Account
	Node     string
	Workload string // the owner that people know the pod by, such as "web"; the pod's own name without one
	Addrs    []netip.Addr
	InMesh   bool          // its node has acknowledged the capture: peers speak mutual TLS to it
	HostNet  bool          // shares its node's network: its address is the node's, it is never in the mesh
	Policy   DefaultPolicy // of its node for what comes to it
	Policies []PolicyRef   // that are about it, beside those of its namespace and of the mesh
	Open     bool          // it is not to be in the mesh, or no more: it takes what comes, whatever policies say
}

// Node is a machine of the cluster.
type Node struct {
	Name  string
	Zone  string
	Addrs []netip.Addr
}

// Service is a Kubernetes Service: the addresses and ports by which callers reach it.
type Service struct {
	Name
	Addrs        []netip.Addr // ClusterIPs, external IPs and load balancer addresses; none when headless
	Ports        []Port
	Headless     bool
	ExternalName string
	// Affinity, in seconds, is how long a client stays with its endpoint (sessionAffinity: ClientIP); 0 is none.
	Affinity int
	// LocalOnly is internalTrafficPolicy: Local: only endpoints of the caller's node are used.
	LocalOnly bool
	// Distribution is trafficDistribution: which endpoints come first.
	Distribution Distribution
}

// Distribution is which endpoints of a Service come first (KEP-3015, KEP-4444).
type Distribution uint8

// The distributions. PreferClose is PreferSameZone.
const (
	AnyEndpoint Distribution = iota
	PreferSameZone
	PreferSameNode
)

// Port is one port of a Service.
type Port struct {
	Name     string
	Number   uint16
	NodePort uint16 // 0 when there is none
	Protocol Protocol
}

// Port returns the port with that number.
func (s *Service) Port(number uint16) (Port, bool) {
	for _, p := range s.Ports {
		if p.Number == number {
			return p, true
		}
	}
	return Port{}, false
}

// Endpoints is where a Service's traffic goes. It is sent only to nodes that subscribed to the Service.
type Endpoints struct {
	Service Name
	Ports   []PortEndpoints
}

// PortEndpoints are the endpoints of one service port, by the port's name.
type PortEndpoints struct {
	Port      string
	Endpoints []Endpoint
}

// Endpoint is one address that serves a port.
type Endpoint struct {
	Addr        netip.AddrPort
	Node        string
	Zone        string
	Zones       []string // hints: of the callers that are to use it
	Ready       bool
	Serving     bool // terminating, but still answers: used only when nothing is ready
	Terminating bool
}

// Of returns the endpoints of the named port.
func (e *Endpoints) Of(port string) []Endpoint {
	if e == nil {
		return nil
	}
	for _, p := range e.Ports {
		if p.Port == port {
			return p.Endpoints
		}
	}
	return nil
}

// Protocol is what an application speaks on a port, as far as somebody declared it.
type Protocol uint8

// The protocols. Unknown means: detect it.
const (
	Unknown Protocol = iota
	TCP              // opaque bytes, TLS of the app's own included
	HTTP1
	HTTP2 // gRPC included
)

var protocolNames = [...]string{"unknown", "tcp", "http1", "http2"}

func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ParseAppProtocol reads a Service port's appProtocol (KEP-1422, KEP-3726). What it does not know is Unknown.
func ParseAppProtocol(s string) Protocol {
	switch s {
	case "http", "HTTP", "http1", "kubernetes.io/ws":
		return HTTP1
	case "http2", "HTTP2", "grpc", "h2c", "kubernetes.io/h2c":
		return HTTP2
	case "tcp", "TCP", "https", "tls", "kubernetes.io/wss", "mysql", "postgresql", "redis", "mongo", "smtp":
		return TCP
	}
	return Unknown
}
