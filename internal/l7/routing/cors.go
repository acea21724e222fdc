package routing

import (
	"strconv"
	"strings"

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
	if c.MaxAge > 0 {
		out.age = strconv.Itoa(int(c.MaxAge.Seconds()))
	}
	return out
}

// Preflight is the answer to a browser that asks whether it may send a request: the fields of a 204. A browser whose origin is not
// allowed gets none of them.
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
		return nil, true
	}
	fields = c.common(fields, origin)
	fields = append(fields, field("access-control-allow-methods", c.listed(c.methods, method)))
	if headers, ok := exchange.Get(h.Fields, "access-control-request-headers"); ok || c.headers != "" {
		if list := c.listed(c.headers, headers); list != "" {
			fields = append(fields, field("access-control-allow-headers", list))
		}
	}
	if c.age != "" {
		fields = append(fields, field("access-control-max-age", c.age))
	}
	return fields, true
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
	fields := f.cors.common(nil, origin)
	if f.cors.expose != "" {
		fields = append(fields, field("access-control-expose-headers", f.cors.expose))
	}
	return fields
}

func field(name, value string) exchange.Field {
	return exchange.Field{Name: name, Value: value, Notes: exchange.Note(name, value)}
}

func (c *cors) common(fields []exchange.Field, origin string) []exchange.Field {
	if !c.Credentials && len(c.Origins) == 1 && c.Origins[0] == "*" {
		return append(fields, field("access-control-allow-origin", "*"))
	}
	fields = append(fields, field("access-control-allow-origin", origin), field("vary", "Origin"))
	if c.Credentials {
		fields = append(fields, field("access-control-allow-credentials", "true"))
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
