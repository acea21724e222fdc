package mesh

import (
	"hash/maphash"
	"slices"
)

// table is a map whose versions share what they have in common: to make the next one costs what it changes, however much
// is in it. The zero value is empty.
type table[K comparable, V any] struct {
	root *[tableWidth]*tableNode[K, V]
	len  int
}

// tableWidth is the number of branches on each of the two levels: with 100,000 keys there are six to look through.
const tableWidth = 128

type tableNode[K comparable, V any] [tableWidth][]pair[K, V]

type pair[K comparable, V any] struct {
	key   K
	value V
}

// tableSeed keeps those who choose keys from choosing where they go.
var tableSeed = maphash.MakeSeed()

func branches[K comparable](k K) (first, second int) {
	h := maphash.Comparable(tableSeed, k)
	return int(h % tableWidth), int(h / tableWidth % tableWidth)
}

func (t table[K, V]) get(k K) (v V, ok bool) {
	first, second := branches(k)
	if t.root == nil || t.root[first] == nil {
		return v, false
	}
	for _, p := range t.root[first][second] {
		if p.key == k {
			return p.value, true
		}
	}
	return v, false
}

// edit begins the next version.
func (t table[K, V]) edit() *tableEdit[K, V] { return &tableEdit[K, V]{table: t} }

// tableEdit is a version that is being made. Its table field is that version.
type tableEdit[K comparable, V any] struct {
	table[K, V]
	root bool // the root is not shared any more
	own  [tableWidth]bool
}

// leaf is where a key's pair is or would be, in a node that may be written.
func (e *tableEdit[K, V]) leaf(k K) *[]pair[K, V] {
	first, second := branches(k)
	if !e.root {
		root := new([tableWidth]*tableNode[K, V])
		if e.table.root != nil {
			*root = *e.table.root
		}
		e.table.root, e.root = root, true
	}
	if !e.own[first] {
		node := new(tableNode[K, V])
		if old := e.table.root[first]; old != nil {
			*node = *old
		}
		e.table.root[first], e.own[first] = node, true
	}
	return &e.table.root[first][second]
}

func (e *tableEdit[K, V]) set(k K, v V) {
	leaf := e.leaf(k)
	at := slices.IndexFunc(*leaf, func(p pair[K, V]) bool { return p.key == k })
	if at < 0 {
		*leaf = append(slices.Clip(*leaf), pair[K, V]{k, v}) // clipped: the rest of the array is the earlier version's
		e.len++
		return
	}
	*leaf = slices.Clone(*leaf)
	(*leaf)[at].value = v
}

func (e *tableEdit[K, V]) delete(k K) {
	if _, there := e.get(k); !there {
		return
	}
	leaf := e.leaf(k)
	*leaf = slices.DeleteFunc(slices.Clone(*leaf), func(p pair[K, V]) bool { return p.key == k })
	e.len--
}
