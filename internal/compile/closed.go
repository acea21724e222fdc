package compile

// SetClosed has every pod leave the mesh, in order, as if its namespace were not enrolled, and no other join; or
// lets those join again that are to. Keepers are told all namespaces as not enrolled, so new pods start outside.
func (w *World) SetClosed(closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed == closed {
		return
	}
	w.closed = closed
	w.namespacesAt, w.dirty = w.next(), true
	for _, m := range w.members {
		w.settle(m)
	}
	w.settleClaims()
	w.retry() // a pod that has left may have had what another waits for
	w.settleClaims()
	w.end()
}

// Closed tells whether everybody is to leave.
func (w *World) Closed() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.closed
}

// Captured is how many pods each node has captured, by its last report.
func (w *World) Captured() map[string]int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	out := make(map[string]int, len(w.captured))
	for node, r := range w.captured {
		out[node] = len(r.pods)
	}
	return out
}
