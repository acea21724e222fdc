package mesh

import "time"

// Traffic is how requests are treated that are sent to a Service, or by a rule: a TrafficPolicy, or what several of them
// make together. A nil part is not spoken of.
type Traffic struct {
	From     []Name // the policies that it is made of, the most specific first
	Retry    *Retry
	Timeouts *Timeouts
	Breaker  *Breaker
	Balance  *Balance
	Limit    *Limit
	Faults   []Fault
	Protocol Protocol // overrides what the Service's port declares; Unknown does not
}

// Retry is when a request is sent again.
type Retry struct {
	Statuses []StatusRange // HTTP statuses
	GRPC     []uint32      // google.rpc.Code
	Connect  bool          // no connection, or one that was reset before the answer began
	Limit    int           // times beside the first one
	Attempt  time.Duration // one attempt, after which it is given up and counts as failed; 0 is no limit
	Backoff  time.Duration // before the first retry, with jitter; doubles
	// Budget: retries may be Ratio of the requests of the last ten seconds, and Floor a second beside.
	Ratio float64
	Floor float64
}

// StatusRange is the HTTP statuses from First to Last.
type StatusRange struct{ First, Last uint16 }

// Timeouts end requests. 0 is no limit.
type Timeouts struct {
	Request time.Duration // from the request's head to the response's end, retries included
	Attempt time.Duration // of one attempt, to the response's end
	Idle    time.Duration // without a byte either way
}

// Breaker takes endpoints out of the choice that fail.
type Breaker struct {
	Consecutive int     // failures in a row; 0 is no such limit
	SuccessRate float64 // at least, of Requests in Window; 0 is no such limit
	Requests    int
	Window      time.Duration
	// Probation: an endpoint that is out is tried with one request after Min, then twice as long, up to Max, each with a
	// share Jitter of it more or less.
	Min, Max time.Duration
	Jitter   float64
	// Connections and Pending bound what waits at each endpoint; 0 is no limit.
	Connections, Pending int
}

// Balance is how an endpoint is chosen.
type Balance struct {
	Algorithm Algorithm
	HashOn    HashSource
	HashName  string        // of the header or the cookie
	SlowStart time.Duration // how long a new endpoint's share grows; 0 is not at all
	Zone      bool          // endpoints of the caller's zone first, as long as they suffice
}

// Algorithm of the choice.
type Algorithm uint8

// The algorithms.
const (
	PeakEWMA Algorithm = iota
	LeastRequest
	RoundRobin
	ConsistentHash
)

// HashSource is what a consistent hash is made of. A request without it is balanced by PeakEWMA.
type HashSource uint8

// The sources.
const (
	HashAddress HashSource = iota // of the client
	HashHeader
	HashCookie
)

// Limit refuses requests beyond a rate, at each receiving proxy. 0 is no limit.
type Limit struct {
	Total, Each Rate            // of all clients together, and of each identity
	Except      map[string]Rate // of identities (SPIFFE ID) that have their own
}

// Rate is a rate of requests; Burst is how many may come at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Fault disturbs a share of requests, for tests of what others do about it. The first that matches and is drawn counts.
type Fault struct {
	Match   []Match // any of them; none is every request
	Percent float64
	Delay   time.Duration
	Status  int    // HTTP answer; 0 is none
	GRPC    uint32 // google.rpc.Code of the answer to gRPC requests, if Abort
	Abort   bool
}
