// Package debug is what a proxy tells under /debug/, as both ends of the question know it: the proxy that answers, and
// the command line tool that asks.
//
// Promises:
//  1. It is types only, and every one of them is JSON.
//  2. A field that is here keeps its name and meaning; one that a reader does not know it passes over.
//  3. Nothing here is a secret: no key, no token, no byte of anybody's traffic.
package debug

import "time"

// The paths.
const (
	NodePath       = "/debug/node"
	PodsPath       = "/debug/pods"
	EdgesPath      = "/debug/edges"
	RoutesPath     = "/debug/routes"
	IdentitiesPath = "/debug/identities"
	EndpointsPath  = "/debug/endpoints"
	ExplainPath    = "/debug/explain"
	AuthzPath      = "/debug/authz"
	RulesPath      = "/debug/rules"
)

// Name of an object in a namespace.
type Name struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Node is the state of a node's proxy.
type Node struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`     // by the node's clock
	Pending []string  `json:"pending"` // what it waits for before it is ready
	// Controller tells whether the stream from the controller is up, and Table which version of the world it has told.
	Controller bool   `json:"controller"`
	Table      uint64 `json:"table"`
	Synced     bool   `json:"synced"` // the table is the controller's, or one that the controller has signed
	Keeper     bool   `json:"keeper"` // the keeper's socket is connected
}

// Pod is a pod of this node that is captured.
type Pod struct {
	UID       string   `json:"uid"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Workload  string   `json:"workload"`
	Account   string   `json:"account"` // service account, of the same namespace
	Addresses []string `json:"addresses"`
	InMesh    bool     `json:"inMesh"` // announced: other nodes speak mutual TLS to it
	// Earlier is how many TCP connections it has that were open when it was captured: they stay outside of the mesh until they
	// end. With EarlierMore there may be more of them.
	Earlier     int     `json:"earlier"`
	EarlierMore bool    `json:"earlierMore,omitempty"`
	Inbound     Traffic `json:"inbound"`
	Outbound    Traffic `json:"outbound"`
}

// Buckets are the upper bounds of Traffic.Latency, in seconds; the last one has none.
var Buckets = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// Traffic is what passed in one direction since the pod was captured by this proxy.
type Traffic struct {
	Requests uint64   `json:"requests"`
	Failures uint64   `json:"failures"`
	Seconds  float64  `json:"seconds"` // sum of the durations
	Latency  []uint64 `json:"latency"` // requests by duration: one number for each of Buckets, and one for what took longer
	Opened   uint64   `json:"opened"`  // TCP connections
	Open     int64    `json:"open"`
	// Received and Sent are bytes that the client sent and was sent, on opaque connections that ended.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
}

// Edge is a pod of this node and somebody that it has spoken with.
type Edge struct {
	Direction string `json:"direction"` // inbound or outbound, seen from the pod
	Pod       Name   `json:"pod"`
	Workload  string `json:"workload"`
	Account   string `json:"account"`
	// Peer is the other end; all its fields are empty for an address in no table.
	Peer Peer `json:"peer"`
	// TLS is how the hop between the two is protected: mtls, not_in_mesh, self or none.
	TLS      string    `json:"tls"`
	Requests uint64    `json:"requests"`
	Failures uint64    `json:"failures"`
	Opened   uint64    `json:"opened"` // TCP connections
	Open     int64     `json:"open"`
	Last     time.Time `json:"last"` // when a request or connection ended or began last
}

// Peer is the other end of an edge. With TLS mtls the account was proved by its certificate.
type Peer struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Workload  string `json:"workload"`
	Account   string `json:"account"`
	Node      string `json:"node"`
	Identity  string `json:"identity"` // SPIFFE ID, with TLS mtls
}

// Route is what one path of a service, as its callers' node saw it, has answered.
type Route struct {
	Service  string  `json:"service"` // namespace/name
	Path     string  `json:"path"`
	Protocol string  `json:"protocol"`
	Requests uint64  `json:"requests"`
	Failures uint64  `json:"failures"`
	Seconds  float64 `json:"seconds"` // sum of the durations
	// Identity is whom the last request's server proved to be; empty if that was not by mutual TLS.
	Identity string `json:"identity,omitempty"`
}

// Identities are the certificates that a proxy may use; their keys are the keeper's.
type Identities struct {
	TrustDomain string     `json:"trustDomain"`
	Roots       string     `json:"roots"` // PEM
	Identities  []Identity `json:"identities"`
}

// Identity is the certificate of a service account, or of the proxy itself.
type Identity struct {
	Namespace string `json:"namespace,omitempty"` // empty for the proxy's own, as is
	Account   string `json:"account,omitempty"`
	Chain     string `json:"chain"` // PEM, the leaf first
}

// Service is a port of a service as a node knows it.
type Service struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Port      string   `json:"port"` // its name; "" if it has none
	Number    uint16   `json:"number"`
	Protocol  string   `json:"protocol"` // declared, or unknown: it is detected
	Addresses []string `json:"addresses"`
	Family    string   `json:"family,omitempty"` // of its endpoints here, IPv4 or IPv6, as far as it is used
	// Used is false if no pod of the node has used it yet: its endpoints are asked for when one does.
	Used      bool       `json:"used"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is a place where a port is served.
type Endpoint struct {
	Address   string  `json:"address"`
	Namespace string  `json:"namespace,omitempty"`
	Pod       string  `json:"pod,omitempty"` // "" for an address in no table
	UID       string  `json:"uid,omitempty"`
	Node      string  `json:"node,omitempty"`
	Ready     bool    `json:"ready"`
	Serving   bool    `json:"serving"`            // it terminates, but still answers
	InMesh    bool    `json:"inMesh"`             // it is spoken to over mutual TLS, and
	Identity  string  `json:"identity,omitempty"` // must prove to be this
	InFlight  int64   `json:"inFlight"`
	Latency   float64 `json:"latencySeconds"` // weight in the choice, with what is in flight
}

// Explanation is what the node would do with a connection.
type Explanation struct {
	Node  string `json:"node"`
	Steps []Step `json:"steps"`
	// Service is what the address stands for, and Endpoint where it leads if it is no service's.
	Service  *Service  `json:"service,omitempty"`
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// Treatment is what policies make of the request that was asked about, or of any if none was and there are no rules.
	Treatment *Treatment `json:"treatment,omitempty"`
}

// Step is one decision.
type Step struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// Authz is what decides about a local pod.
type Authz struct {
	UID           string      `json:"uid"`
	Namespace     string      `json:"namespace"`
	Name          string      `json:"name"`
	DefaultPolicy string      `json:"defaultPolicy"`
	Rules         []AuthzRule `json:"rules"`
}

// AuthzRule is a rule of a policy, and how often it has decided since the pod's row or a policy has last changed. The default
// policy has no namespace.
type AuthzRule struct {
	Namespace string `json:"namespace,omitempty"`
	Policy    string `json:"policy"`
	Action    string `json:"action,omitempty"`
	Rule      string `json:"rule"`           // its number; empty: an ALLOW is about the port and none has matched
	Text      string `json:"text,omitempty"` // the rule in words
	Allowed   uint64 `json:"allowed"`
	Denied    uint64 `json:"denied"`
	Audited   uint64 `json:"audited"`
}

// Rules are what is in force at a port of a service for the pods of this node that use it.
type Rules struct {
	Service  Name   `json:"service"`
	Port     uint16 `json:"port"`
	Consumer string `json:"consumer,omitempty"` // the namespace whose pods they are for; empty: everybody's
	Kind     string `json:"kind,omitempty"`     // of route; empty: there are only policies
	// Waits: newer rules wait for the endpoints of their backends.
	Waits    bool      `json:"waits,omitempty"`
	Policies Treatment `json:"policies"` // of the service, where no rule is
	Rules    []Rule    `json:"rules"`
}

// Rule is a rule of a route.
type Rule struct {
	Route    Name      `json:"route"`
	Rule     string    `json:"rule"`    // its name, or its number
	Matches  []string  `json:"matches"` // in words; any of them. Empty: everything
	Filters  []string  `json:"filters,omitempty"`
	Backends []Backend `json:"backends"`
	Policies Treatment `json:"policies"`
}

// Backend is where a share of a rule's traffic goes.
type Backend struct {
	Service   Name   `json:"service"`
	Port      uint16 `json:"port"`
	Weight    uint32 `json:"weight"`
	Endpoints int    `json:"endpoints"`
	Broken    string `json:"broken,omitempty"` // why its share is answered with 500
}

// Treatment is what TrafficPolicies make of requests.
type Treatment struct {
	From  []Name `json:"from,omitempty"` // the policies, the most specific first
	Parts []Part `json:"parts,omitempty"`
}

// Part is one part of them, by the name of its field.
type Part struct {
	Name string `json:"name"`
	Text string `json:"text"`
}
