package compile

// index finds what must be looked at again when something changes.
type index struct {
	podsOf   map[string]map[Key]bool // by namespace
	slicesOf map[string]map[Key]bool // by service, as namespace/name
}

func newIndex() index {
	return index{podsOf: map[string]map[Key]bool{}, slicesOf: map[string]map[Key]bool{}}
}

func put[T comparable](m map[T]map[Key]bool, at T, k Key) {
	if m[at] == nil {
		m[at] = map[Key]bool{}
	}
	m[at][k] = true
}

func drop[T comparable](m map[T]map[Key]bool, at T, k Key) {
	delete(m[at], k)
	if len(m[at]) == 0 {
		delete(m, at)
	}
}
