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
	header []values // by one header field that they want, with its exact value
	query  []values
	method map[string][]int32
	rest   []int32
}

// values are the conditions that want a field or a parameter to be exactly something.
type values struct {
	name string
	at   map[string][]int32
}

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
		b.header = addValue(b.header, &c.headers[k], i)
		return
	}
	if k := slices.IndexFunc(c.query, exact); k >= 0 {
		b.query = addValue(b.query, &c.query[k], i)
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

func addValue(all []values, f *fieldCondition, i int32) []values {
	k := slices.IndexFunc(all, func(v values) bool { return v.name == f.name })
	if k < 0 {
		k = len(all)
		all = append(all, values{f.name, map[string][]int32{}})
	}
	all[k].at[f.value] = append(all[k].at[f.value], i)
	return all
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
	for i := range b.header {
		if value, ok := fieldValue(s.q.Fields, b.header[i].name); ok {
			s.list(b.header[i].at[value])
		}
	}
	for i := range b.query {
		if value, ok := parameter(s.query, b.query[i].name); ok {
			s.list(b.query[i].at[value])
		}
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
