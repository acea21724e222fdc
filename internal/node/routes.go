package node

import (
	"cmp"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// routesMax bounds the table of routes. Paths are chosen by clients, so they are no label of a metric: they are
// counted here, for people who look, and the least used make room.
const routesMax = 512

// routePathMax is the longest path that is kept.
const routePathMax = 128

type routeKey struct {
	service  mesh.Name
	path     string
	protocol string
}

type routeEntry struct {
	requests, failures atomic.Uint64
	nanos              atomic.Int64                        // sum of the durations
	used               atomic.Int64                        // unix nanoseconds
	state              atomic.Pointer[tls.ConnectionState] // of the last request by mutual TLS
}

// routes counts requests by path. Its zero value is ready.
type routes struct {
	mu sync.Mutex // protects m
	m  map[routeKey]*routeEntry
}

// entry is where requests for a path are counted. One that makes room for another meanwhile is lost with what it still counts.
func (r *routes) entry(service mesh.Name, path, protocol string) *routeEntry {
	path, _, _ = strings.Cut(path, "?")
	if len(path) > routePathMax {
		path = path[:routePathMax]
	}
	key := routeKey{service, path, protocol}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.m[key]
	if e == nil {
		if r.m == nil {
			r.m = map[routeKey]*routeEntry{}
		}
		if len(r.m) >= routesMax {
			r.evict()
		}
		key.path = strings.Clone(path) // it may be part of a longer text
		e = &routeEntry{}
		r.m[key] = e
	}
	return e
}

func (e *routeEntry) add(r *l7.RequestRecord, failed bool, now time.Time) {
	e.requests.Add(1)
	if failed {
		e.failures.Add(1)
	}
	e.nanos.Add(int64(r.Duration))
	e.used.Store(now.UnixNano())
	if e.state.Load() != r.State {
		e.state.Store(r.State)
	}
}

// evict drops the entry that was not used for longest among a few.
func (r *routes) evict() {
	var oldest routeKey
	var at int64
	looked := 0
	for k, e := range r.m {
		if used := e.used.Load(); looked == 0 || used < at {
			oldest, at = k, used
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(r.m, oldest)
}

func (r *routes) list() []debug.Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []debug.Route{}
	for k, e := range r.m {
		list = append(list, debug.Route{Service: k.service.String(), Path: k.path, Protocol: k.protocol,
			Requests: e.requests.Load(), Failures: e.failures.Load(), Seconds: time.Duration(e.nanos.Load()).Seconds(), Identity: identityOf(e.state.Load())})
	}
	slices.SortFunc(list, func(a, b debug.Route) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// identityOf is the SPIFFE ID in a verified certificate.
func identityOf(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	peer, err := identity.PeerOf(*state)
	if err != nil {
		return ""
	}
	return peer.ID.String()
}

// ServeHTTP lists the routes as JSON, the most used first.
func (r *routes) ServeHTTP(w http.ResponseWriter, _ *http.Request) { writeJSON(w, r.list()) }
