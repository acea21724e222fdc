package h2

import (
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// malformed is a stream error (RFC 9113 section 8.1.1).
type malformed string

func (m malformed) Error() string { return string(m) }

// private fields, lower case.
const (
	fieldVersion  = "fairlead-version"
	fieldMethod   = "fairlead-method"
	fieldService  = "fairlead-service"
	fieldStatus   = "fairlead-status"
	fieldProtocol = "fairlead-protocol"
)

// reading collects a head from decoded fields. A connection has one: what it returns is valid until the next head.
type reading struct {
	private, isResponse bool
	head                exchange.Head
	seen                [6]bool // pseudo-fields
	regular             bool
	host                string
	hosts               int
	version, method     string
	status, protocol    string
}

const (
	seenMethod = iota
	seenScheme
	seenAuthority
	seenPath
	seenProtocol
	seenStatus
)

// reset begins a new head in the room of the one before.
func (r *reading) reset(private, isResponse bool) {
	room := r.head.Fields[:0]
	*r = reading{private: private, isResponse: isResponse}
	r.head.Length, r.head.Version, r.head.Fields = -1, exchange.HTTP2, room
}

// forget lets go of the head's strings.
func (r *reading) forget() {
	clear(r.head.Fields)
	r.reset(false, false)
	if cap(r.head.Fields) > keptFields {
		r.head.Fields = nil
	}
}

func (r *reading) all(fields []exchange.Field) error {
	for i := range fields {
		f := &fields[i]
		var err error
		switch n := &f.Notes; {
		case n.Known && n.Valid && n.About == exchange.Plain && (n.Lower || r.private):
			r.regular = true
			r.head.Fields = append(r.head.Fields, *f)
		case strings.HasPrefix(f.Name, ":"):
			err = r.pseudo(f.Name, f.Value)
		default:
			r.regular = true
			err = r.field(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) pseudo(name, value string) error {
	h := &r.head
	which, dst := seenStatus, (*string)(nil)
	switch name {
	case ":method":
		which, dst = seenMethod, &h.Method
	case ":scheme":
		which, dst = seenScheme, &h.Scheme
	case ":authority":
		which, dst = seenAuthority, &h.Authority
	case ":path":
		which, dst = seenPath, &h.Path
	case ":protocol":
		which, dst = seenProtocol, &h.Protocol
	case ":status":
		n, err := strconv.Atoi(value)
		if err != nil || len(value) != 3 || n < 100 {
			return malformed("malformed :status")
		}
		h.Status = n
	default:
		return malformed("unknown pseudo-field")
	}
	if r.regular || r.seen[which] || r.isResponse != (which == seenStatus) {
		return malformed("misplaced pseudo-field")
	}
	r.seen[which] = true
	if dst != nil {
		*dst = value
	}
	return nil
}

func (r *reading) field(f *exchange.Field) error {
	if err := validField(f, r.private); err != nil {
		return err
	}
	h := &r.head
	switch about := exchange.About(f.Name); about {
	case exchange.AboutUs:
		if r.private {
			r.ours(f)
		}
		return nil
	case exchange.AboutTE:
		if !exchange.Same(f.Value, "trailers") {
			return malformed("TE with something but trailers")
		}
	case exchange.AboutHost:
		r.host, r.hosts = f.Value, r.hosts+1
		return nil
	case exchange.AboutLength:
		n, ok := exchange.ParseLength(f.Value)
		if !ok || h.Length >= 0 && (h.Length != n || !r.isResponse) {
			return malformed("malformed content-length")
		}
		if h.Length >= 0 {
			return nil
		}
		h.Length = n
	default:
		if about.HopByHop() {
			return malformed("connection-specific field")
		}
	}
	h.Fields = append(h.Fields, *f)
	return nil
}

func (r *reading) ours(f *exchange.Field) {
	switch strings.ToLower(f.Name) {
	case fieldVersion:
		r.version = f.Value
	case fieldMethod:
		r.method = f.Value
	case fieldService:
		r.head.Service = f.Value
	case fieldStatus:
		r.status = f.Value
	case fieldProtocol:
		r.protocol = f.Value
	}
}

// validField checks name and value (RFC 9113 section 8.2.1).
func validField(f *exchange.Field, private bool) error {
	if !exchange.ValidToken(f.Name) {
		return malformed("malformed field name")
	}
	if !private {
		for i := 0; i < len(f.Name); i++ {
			if f.Name[i] >= 'A' && f.Name[i] <= 'Z' {
				return malformed("field name in upper case")
			}
		}
	}
	if !exchange.ValidField(f.Value) {
		return malformed("malformed field value")
	}
	return nil
}

// request makes a request's head of decoded fields.
func (r *reading) request(fields []exchange.Field, private bool) (*exchange.Head, error) {
	r.reset(private, false)
	if err := r.all(fields); err != nil {
		return nil, err
	}
	h := &r.head
	if r.hosts > 1 || r.hosts == 1 && r.seen[seenAuthority] && !exchange.Same(r.host, h.Authority) {
		return nil, malformed("host contradicts :authority")
	}
	if !r.seen[seenAuthority] {
		h.Authority = r.host
	}
	if !exchange.ValidToken(h.Method) || !exchange.ValidHost(h.Authority) {
		return nil, malformed("malformed :method or :authority")
	}
	if err := r.form(); err != nil {
		return nil, err
	}
	if private {
		r.restore()
	}
	return h, nil
}

// form checks which pseudo-fields go together (RFC 9113 section 8.3.1, 8.5; RFC 8441 section 4).
func (r *reading) form() error {
	h := &r.head
	if h.Method == "CONNECT" && !r.seen[seenProtocol] {
		if r.seen[seenPath] || r.seen[seenScheme] || h.Authority == "" {
			return malformed("malformed CONNECT")
		}
		return nil
	}
	if r.seen[seenProtocol] && (h.Method != "CONNECT" || h.Protocol == "" || !exchange.ValidValue(h.Protocol)) {
		return malformed("misplaced :protocol")
	}
	if h.Scheme == "" || !validPath(h) {
		return malformed("missing or malformed :path or :scheme")
	}
	for i := 0; i < len(h.Scheme); i++ {
		if c := h.Scheme[i] | 0x20; (c < 'a' || c > 'z') && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(h.Scheme[i]))) {
			return malformed("malformed :scheme")
		}
	}
	return nil
}

func validPath(h *exchange.Head) bool {
	if h.Path == "*" {
		return h.Method == "OPTIONS"
	}
	if h.Path == "" || h.Path[0] != '/' {
		return false
	}
	for i := 0; i < len(h.Path); i++ {
		if h.Path[i] <= ' ' || h.Path[i] == 0x7f {
			return false
		}
	}
	return true
}

// restore takes from the private fields what the client spoke.
func (r *reading) restore() {
	h := &r.head
	switch r.version {
	case "10":
		h.Version = exchange.HTTP10
	case "11":
		h.Version = exchange.HTTP11
	}
	if h.Protocol != "" && exchange.ValidToken(r.method) {
		h.Method = r.method
	}
}

// response makes a response's head of decoded fields.
func (r *reading) response(fields []exchange.Field, private bool) (*exchange.Head, error) {
	r.reset(private, true)
	if err := r.all(fields); err != nil {
		return nil, err
	}
	h := &r.head
	if !r.seen[seenStatus] || h.Status == 101 {
		return nil, malformed("missing or malformed :status")
	}
	if private {
		r.restore()
		h.Protocol = r.protocol
		if r.status == "101" && h.Status == 200 {
			h.Status = 101
		}
	}
	return h, nil
}

// trailers checks trailer fields; those that are ours, or that frame, do not travel on.
func (r *reading) trailers(fields []exchange.Field, private bool) ([]exchange.Field, error) {
	r.reset(private, false)
	for i := range fields {
		f := &fields[i]
		if strings.HasPrefix(f.Name, ":") {
			return nil, malformed("pseudo-field in trailers")
		}
		if err := validField(f, private); err != nil {
			return nil, err
		}
		switch about := exchange.About(f.Name); about {
		case exchange.AboutUs, exchange.AboutLength, exchange.AboutHost:
		default:
			if about.HopByHop() {
				return nil, malformed("connection-specific field in trailers")
			}
			r.head.Fields = append(r.head.Fields, *f)
		}
	}
	return r.head.Fields, nil
}
