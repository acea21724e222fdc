package compile

import "slices"

// change is one entry of the log: something of that kind and key changed at that version.
type change struct {
	version uint64
	kind    Kind
	key     string
}

// history is the log of the latest changes. It forgets the oldest when it is full.
type history struct {
	changes []change
	limit   int
	floor   uint64 // changes up to this version may be forgotten
}

func (h *history) add(c change) {
	if len(h.changes) >= h.limit {
		half := len(h.changes) / 2
		// A version is forgotten as a whole, or its changes would be told in part.
		for half < len(h.changes) && h.changes[half].version == h.changes[half-1].version {
			half++
		}
		h.floor = h.changes[half-1].version
		h.changes = append([]change(nil), h.changes[half:]...)
	}
	h.changes = append(h.changes, c)
}

// since returns the changes after a version, or false if it no longer knows them all.
func (h *history) since(version uint64) ([]change, bool) {
	if version < h.floor {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(h.changes, version+1, func(c change, v uint64) int {
		switch {
		case c.version < v:
			return -1
		case c.version > v:
			return 1
		}
		return 0
	})
	return h.changes[i:], true
}
