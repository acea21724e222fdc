package routing

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// cors is a mesh.CORS, ready for use. What the fields mean is the Fetch standard's, section 3.3.
type cors struct {
	*mesh.CORS
	methods, headers, expose, age string
}

func newCORS(c *mesh.CORS) *cors {
	if c == nil {
		return nil
	}
	out := &cors{CORS: c, methods: strings.Join(c.Methods, ", "), headers: strings.Join(c.Headers, ", "), expose: strings.Join(c.Expose, ", ")}
	if c.Credentials && slices.Contains(c.Expose, "*") {
		out.expose = "" // a star would be a name
	}
	age := c.MaxAge
	if age < time.Second {
		age = 5 * time.Second
	}
	out.age = strconv.FormatInt(int64(age/time.Second), 10)
	return out
}

// Preflight is the answer to a browser that asks whether it may send a request: the fields of a 204. A browser whose origin is not
// allowed gets none of them
// that would allow it.
func (f *Filters) Preflight(h *exchange.Head) (fields []exchange.Field, ok bool) {
	if f.cors == nil || h.Method != "OPTIONS" {
		return nil, false
	}
	origin, asks := exchange.Get(h.Fields, "origin")
	method, wants := exchange.Get(h.Fields, "access-control-request-method")
	if !asks || !wants {
		return nil, false
	}
	c := f.cors
	if !c.allows(origin) {
		return []exchange.Field{field("vary", "Origin")}, true
	}
	fields = c.common(fields, origin)
	if list := c.listed(c.methods, method); list != "" {
		fields = append(fields, field("access-control-allow-methods", list))
	}
	headers, _ := exchange.Get(h.Fields, "access-control-request-headers")
	if list := c.listed(c.headers, headers); list != "" {
		fields = append(fields, field("access-control-allow-headers", list))
	}
	return append(fields, field("access-control-max-age", c.age)), true
}

// CORS is what the answer to a request of a browser has beside its own fields; what it has of the same names goes away.
func (f *Filters) CORS(h *exchange.Head) []exchange.Field {
	if f.cors == nil {
		return nil
	}
	origin, ok := exchange.Get(h.Fields, "origin")
	if !ok || !f.cors.allows(origin) {
		return nil
	}
	return f.cors.common(nil, origin)
}

func field(name, value string) exchange.Field {
	return exchange.Field{Name: name, Value: value, Notes: exchange.Note(name, value)}
}

// common is what a preflight's answer and any other have alike.
func (c *cors) common(fields []exchange.Field, origin string) []exchange.Field {
	if !c.Credentials && len(c.Origins) == 1 && c.Origins[0] == "*" {
		fields = append(fields, field("access-control-allow-origin", "*"))
	} else {
		fields = append(fields, field("access-control-allow-origin", origin), field("vary", "Origin"))
	}
	if c.Credentials {
		fields = append(fields, field("access-control-allow-credentials", "true"))
	}
	if c.expose != "" {
		fields = append(fields, field("access-control-expose-headers", c.expose))
	}
	return fields
}

// listed is a list for an answer. A star means itself only without credentials; with them, what was asked for stands in its place.
func (c *cors) listed(list, asked string) string {
	if list == "*" && c.Credentials {
		return asked
	}
	return list
}

func (c *cors) allows(origin string) bool {
	for _, o := range c.Origins {
		if o == "*" || matchesOrigin(o, origin) {
			return true
		}
	}
	return false
}

// matchesOrigin compares scheme, host and port. A host that begins with "*" has any labels in its place, at least one.
func matchesOrigin(want, origin string) bool {
	want, origin = withoutPort(want), withoutPort(origin)
	head, tail, wild := strings.Cut(want, "*")
	if !wild {
		return strings.EqualFold(want, origin)
	}
	if len(origin) <= len(head)+len(tail) || !strings.EqualFold(origin[:len(head)], head) || !strings.EqualFold(origin[len(origin)-len(tail):], tail) {
		return false
	}
	labels := origin[len(head) : len(origin)-len(tail)]
	return !strings.ContainsAny(labels, "/@?#") && (tail == "" || !strings.Contains(labels, ":"))
}

// withoutPort leaves the port out of an origin if it is the scheme's own, so that both forms of one origin are the same.
func withoutPort(origin string) string {
	scheme, _, _ := strings.Cut(origin, "://")
	switch {
	case exchange.Same(scheme, "http"):
		return strings.TrimSuffix(origin, ":80")
	case exchange.Same(scheme, "https"):
		return strings.TrimSuffix(origin, ":443")
	}
	return origin
}
