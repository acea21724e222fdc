package routing

import (
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/mesh"
)

// index finds the conditions that may hold for a request. All positions are in the order of precedence, so that the search may
// end at the first that holds and is before all that are left.
type index struct {
	exact    map[string]*bucket // by path
	prefix   map[string]*bucket // by path, without the slash at its end
	lengths  []int              // of the prefixes, growing: no other part of a path is looked up
	anywhere *bucket            // regular expressions, and matches without a path
}

// bucket is the conditions on one path. Each stands in one place only, by what tells most of it apart.
type bucket struct {
	header map[string]values // by the name of a header field that they want, with its exact value
	query  map[string]values
	method map[string][]int32
	rest   []int32
}

// values are the conditions that want a field or a parameter to be exactly something.
type values map[string][]int32

func newIndex(order []condition) index {
	x := index{exact: map[string]*bucket{}, prefix: map[string]*bucket{}, anywhere: &bucket{}}
	for i := range order {
		c := &order[i]
		switch p := &c.match.Path; p.Kind {
		case mesh.PathExact:
			at(x.exact, p.Value).add(int32(i), c)
		case mesh.PathPrefix:
			key := trimmed(p.Value)
			at(x.prefix, key).add(int32(i), c)
			if !slices.Contains(x.lengths, len(key)) {
				x.lengths = append(x.lengths, len(key))
			}
		default:
			x.anywhere.add(int32(i), c)
		}
	}
	slices.Sort(x.lengths)
	return x
}

func at(m map[string]*bucket, key string) *bucket {
	if m[key] == nil {
		m[key] = &bucket{}
	}
	return m[key]
}

func (b *bucket) add(i int32, c *condition) {
	exact := func(f fieldCondition) bool { return f.regex == nil }
	if k := slices.IndexFunc(c.headers, exact); k >= 0 {
		addValue(&b.header, strings.ToLower(c.headers[k].name), c.headers[k].value, i)
		return
	}
	if k := slices.IndexFunc(c.query, exact); k >= 0 {
		addValue(&b.query, c.query[k].name, c.query[k].value, i)
		return
	}
	if m := c.match.Method; m != "" {
		if b.method == nil {
			b.method = map[string][]int32{}
		}
		b.method[m] = append(b.method[m], i)
		return
	}
	b.rest = append(b.rest, i)
}

func addValue(to *map[string]values, name, value string, i int32) {
	if *to == nil {
		*to = map[string]values{}
	}
	if (*to)[name] == nil {
		(*to)[name] = values{}
	}
	(*to)[name][value] = append((*to)[name][value], i)
}

// search is one request on its way through the index.
type search struct {
	order       []condition
	q           *Request
	path, query string
	best        int32
}

// first is the position of the first condition that holds; -1 if none does.
func (x *index) first(order []condition, q *Request) int32 {
	s := search{order: order, q: q, best: int32(len(order))}
	s.path, s.query, _ = strings.Cut(q.Path, "?")
	s.bucket(x.exact[s.path])
	for _, n := range x.lengths {
		if n > len(s.path) {
			break
		}
		if n == 0 || n == len(s.path) || s.path[n] == '/' {
			s.bucket(x.prefix[s.path[:n]])
		}
	}
	s.bucket(x.anywhere)
	if int(s.best) == len(order) {
		return -1
	}
	return s.best
}

func (s *search) bucket(b *bucket) {
	if b == nil {
		return
	}
	if len(b.header) > 0 {
		s.headers(b.header)
	}
	if len(b.query) > 0 {
		s.parameters(b.query)
	}
	s.list(b.method[s.q.Method])
	s.list(b.rest)
}

func (s *search) list(positions []int32) {
	for _, i := range positions {
		if i >= s.best {
			return
		}
		if s.order[i].holds(s.q, s.path, s.query) {
			s.best = i
			return
		}
	}
}

// headers goes by what the request has, not by what the conditions want: those may be many names.
func (s *search) headers(want map[string]values) {
	var low [64]byte // a name that is longer costs memory
	var room [scratch]byte
	for i := range s.q.Fields {
		name := appendLower(low[:0], s.q.Fields[i].Name)
		of := want[string(name)]
		if of == nil {
			continue
		}
		value, at, more := firstField(s.q.Fields, s.q.Fields[i].Name)
		switch {
		case at < i: // asked for already
		case more:
			s.list(of[string(joinedFields(room[:0], s.q.Fields[at:], s.q.Fields[i].Name))])
		default:
			s.list(of[value])
		}
	}
}

// parameters asks for later values of a parameter too, though the first counts: the condition itself knows that.
func (s *search) parameters(want map[string]values) {
	var key, value [scratch]byte
	for rest := s.query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		k, v, _ := strings.Cut(pair, "=")
		of := want[k]
		if isEscaped(k) {
			of = want[string(unescaped(key[:0], k))]
		}
		switch {
		case of == nil:
		case isEscaped(v):
			s.list(of[string(unescaped(value[:0], v))])
		default:
			s.list(of[v])
		}
	}
}

// appendLower is for ASCII, as names are.
func appendLower(to []byte, name string) []byte {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		to = append(to, c)
	}
	return to
}
