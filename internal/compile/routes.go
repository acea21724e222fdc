package compile

import (
	"errors"
	"fmt"
	"reflect"

	"fairlead.io/fairlead/internal/mesh"
)

// routesRow is the kind under which a change of a Service's routes stands in the history.
const routesRow Kind = "Routes"

// routeKinds are the kinds of routes.
var routeKinds = map[Kind]mesh.RouteKind{
	HTTPRoute: mesh.HTTPRoute, GRPCRoute: mesh.GRPCRoute, TLSRoute: mesh.TLSRoute, TCPRoute: mesh.TCPRoute,
}

// routes are what is known of routes. Services are named namespace/name.
type routes struct {
	of       map[Key]*route   // in force
	refused  map[Key]*refused // newer versions that are not
	rows     map[string]*mesh.Routes
	shadows  map[string][][]shadow           // of rows, by port
	winners  map[string]map[portGroup]*route // by service
	statuses statuses[RouteStatus]

	parents  map[string]map[Key]bool // routes, by the services that they are attached to
	backends map[string]map[Key]bool // routes, by the services that they send to
	across   map[string]map[Key]bool // routes, by the namespaces not theirs that they send to
	grants   map[string]map[Key]bool // ReferenceGrants, by namespace

	stale stale
}

// stale is what the batch at hand has made so: references to be looked at again, rows and statuses to be made anew.
type stale struct {
	refs, statuses map[Key]bool
	rows           map[string]bool
}

func newStale() stale {
	return stale{refs: map[Key]bool{}, statuses: map[Key]bool{}, rows: map[string]bool{}}
}

func newRoutes(start uint64, limit int) routes {
	return routes{
		of: map[Key]*route{}, refused: map[Key]*refused{}, rows: map[string]*mesh.Routes{}, shadows: map[string][][]shadow{},
		winners: map[string]map[portGroup]*route{}, statuses: newStatuses[RouteStatus](start, limit),
		parents: map[string]map[Key]bool{}, backends: map[string]map[Key]bool{},
		across: map[string]map[Key]bool{}, grants: map[string]map[Key]bool{}, stale: newStale(),
	}
}

// setRoute takes a route in force. One that is invalid leaves the last valid version where it is; the status says so.
func (w *World) setRoute(k Key, object any) error {
	r, err := readRoute(k, object)
	w.routes.stale.statuses[k] = true
	if err != nil {
		w.routes.refused[k] = &refused{head: r.head, err: err}
		return err
	}
	delete(w.routes.refused, k)
	if old := w.routes.of[k]; old != nil {
		if reflect.DeepEqual(old.content, r.content) {
			old.head = r.head // what is new is the generation
			return nil
		}
		w.unlinkRoute(old)
	}
	w.linkRoute(r)
	return nil
}

func (w *World) dropRoute(k Key) {
	delete(w.routes.refused, k)
	if r := w.routes.of[k]; r != nil {
		w.unlinkRoute(r)
	}
	w.routes.stale.statuses[k] = true
}

func (w *World) linkRoute(r *route) {
	w.routes.of[r.key] = r
	w.routes.stale.refs[r.key] = true
	for _, p := range r.parents {
		put(w.routes.parents, p.service.String(), r.key)
		w.refreshRoutes(p.service)
	}
	for _, b := range r.backends() {
		put(w.routes.backends, b.String(), r.key)
		if b.Namespace != r.key.Namespace {
			put(w.routes.across, b.Namespace, r.key)
		}
	}
}

func (w *World) unlinkRoute(r *route) {
	delete(w.routes.of, r.key)
	for _, p := range r.parents {
		drop(w.routes.parents, p.service.String(), r.key)
		w.refreshRoutes(p.service)
	}
	for _, b := range r.backends() {
		drop(w.routes.backends, b.String(), r.key)
		drop(w.routes.across, b.Namespace, r.key)
	}
}

// refreshRoutes has a Service's row made anew at the end of the batch at hand.
func (w *World) refreshRoutes(service mesh.Name) { w.routes.stale.rows[service.String()] = true }

// serviceChanged looks again at the routes that are attached to a Service, and at those that send to it.
func (w *World) serviceChanged(name string) {
	w.routes.stale.rows[name] = true
	for k := range w.routes.backends[name] {
		w.routes.stale.refs[k] = true
	}
}

// settleRoutes makes anew what has become stale: references first, for rows hold what they came to, then rows, for
// statuses tell who has a port.
func (w *World) settleRoutes() {
	s := w.routes.stale
	if len(s.refs)+len(s.rows)+len(s.statuses) == 0 {
		return
	}
	for k := range s.refs {
		s.statuses[k] = true
		if r := w.routes.of[k]; r != nil {
			for _, parent := range w.resolve(r) {
				s.rows[parent.String()] = true
			}
		}
	}
	for name := range s.rows {
		w.makeRow(name)
		for k := range w.routes.parents[name] {
			s.statuses[k] = true
		}
	}
	for k := range s.statuses {
		w.makeStatus(k)
	}
	w.routes.statuses.end()
	w.routes.stale = newStale()
}

// routeProblems are what statuses say that is not as it should be, of routes that are not refused altogether.
func (w *World) routeProblems() []Problem {
	var out []Problem
	for k, s := range w.routes.statuses.of {
		if w.routes.refused[k] != nil {
			continue // it is a Problem already
		}
		o := w.objects[k]
		if hint := w.routes.of[k].hint; hint != "" {
			out = append(out, problems(o, []error{errors.New(hint)})...)
		}
		for _, p := range s.Parents {
			for _, c := range p.Conditions {
				if c.Status == "False" {
					out = append(out, problems(o, []error{fmt.Errorf("%s: %s", c.Reason, c.Message)})...)
				}
			}
		}
	}
	return out
}
