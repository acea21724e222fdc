package mesh

import "time"

// Routes are the rules for the traffic to a Service. They are sent only to nodes that subscribed to the Service.
type Routes struct {
	Service Name
	Ports   []PortRoutes
}

// PortRoutes are the rules for one port of a Service, and for the callers of one namespace or for all.
type PortRoutes struct {
	Port     uint16
	Consumer string // the namespace whose pods they are for, before any others; "" is everybody's
	Kind     RouteKind
	Rules    []Rule
	// Order is every match of every rule, the first to be asked first: the precedence of the Gateway API is in it.
	// A rule of TCPRoute has one match, the empty one.
	Order []RuleMatch
	// Policy is what holds for the port where no rule has been chosen, because there is none.
	Policy *Traffic
}

// RouteKind is a kind of route. Of several kinds at one port the highest counts.
type RouteKind uint8

// The kinds.
const (
	NoRoute RouteKind = iota // only a policy
	TCPRoute
	TLSRoute
	HTTPRoute
	GRPCRoute
)

var routeKinds = [...]string{"", "TCPRoute", "TLSRoute", "HTTPRoute", "GRPCRoute"}

func (k RouteKind) String() string {
	if int(k) < len(routeKinds) {
		return routeKinds[k]
	}
	return "unknown"
}

// Rule is one rule of a route.
type Rule struct {
	Kind     RouteKind
	Route    Name
	Index    int    // among the rules of its route
	Title    string // its name, if it has one
	Filters  Filters
	Backends []Backend     // what weights say in proportion; none: an answer of our own, 500 if no filter makes it
	Request  time.Duration // the whole exchange, retries included; 0 is no limit
	Attempt  time.Duration // one attempt (backendRequest); 0 is no limit
	Policy   *Traffic
}

// Backend is a share of a rule's traffic.
type Backend struct {
	Service Name
	Port    uint16
	Weight  uint32
	Filters Filters
	Broken  string // why it cannot be used, if it cannot: its share is answered with 500
}

// RuleMatch is a match, and the rule that it chooses.
type RuleMatch struct {
	Rule  int // in PortRoutes.Rules
	Match Match
}

// Match is a condition on a request, all parts of which have to hold. The zero value matches everything.
type Match struct {
	Path    PathMatch
	Method  string // as it stands in the request; "" is any
	Headers []FieldMatch
	Query   []FieldMatch
	SNI     string // of a TLSRoute: a host name, or "*." and the end of one; "" is any
}

// PathMatch is a condition on a request's path, without its query.
type PathMatch struct {
	Kind  PathKind
	Value string
}

// PathKind is how a path is compared.
type PathKind uint8

// The kinds of comparison.
const (
	PathAny PathKind = iota
	PathExact
	PathPrefix // whole elements: /a is a prefix of /a/b and of /a, not of /ab
	PathRegex  // RE2, the whole path
)

// FieldMatch is a condition on a header field, whose name is in lower case, or on a parameter of the query. Of a
// parameter that stands there several times the first counts; header fields of one name are joined by commas.
type FieldMatch struct {
	Name  string
	Value string
	Regex bool // RE2, the whole value
}

// Filters are what is done to a request that a rule or a backend has been chosen for.
type Filters struct {
	Request, Response *FieldEdit
	Redirect          *Redirect
	Rewrite           *Rewrite
	Mirrors           []Mirror
	CORS              *CORS
}

// FieldEdit changes header fields: names that are set replace all of that name, whatever the case.
type FieldEdit struct {
	Set, Add []FieldValue
	Remove   []string
}

// FieldValue is a header field.
type FieldValue struct{ Name, Value string }

// Redirect answers with a Location. What is empty is taken from the request.
type Redirect struct {
	Scheme, Host string
	Port         uint16 // 0: that of the scheme if it is given, else that of the listener
	Path         PathEdit
	Status       int
}

// Rewrite changes a request on its way.
type Rewrite struct {
	Host string
	Path PathEdit
}

// PathEdit replaces a path, or the prefix of it that a PathPrefix match has matched. The zero value changes nothing.
type PathEdit struct {
	Kind  PathEditKind
	Value string
}

// PathEditKind is what of a path is replaced.
type PathEditKind uint8

// The kinds of edits.
const (
	PathKeep PathEditKind = iota
	PathFull
	PathMatched
)

// Mirror sends copies of requests to a backend, whose answers nobody sees. Part of Of requests are copied.
type Mirror struct {
	Backend  Backend
	Part, Of uint32
}

// CORS answers and marks cross-origin requests (Fetch standard, section 3.3).
type CORS struct {
	Origins                  []string // scheme://host[:port], with * for the leftmost labels; "*" is any
	Credentials              bool
	Methods, Headers, Expose []string // "*" is any
	MaxAge                   time.Duration
}
