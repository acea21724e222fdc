package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// kinds are the resources that there are.
var kinds = map[string]string{
	"namespaces": "Namespace", "nodes": "Node", "pods": "Pod", "services": "Service", "serviceaccounts": "ServiceAccount",
	"secrets": "Secret", "configmaps": "ConfigMap", "endpointslices": "EndpointSlice", "leases": "Lease",
	"daemonsets": "DaemonSet", "deployments": "Deployment", "tokenreviews": "TokenReview",
}

// ref names an object.
type ref struct{ group, resource, namespace, name string }

type object map[string]any

func (o object) meta() map[string]any {
	m, _ := o["metadata"].(map[string]any)
	if m == nil {
		m = map[string]any{}
		o["metadata"] = m
	}
	return m
}

func (o object) clone() object {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	out := object{}
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}

// at is a field of an object as text, for selectors.
func (o object) at(path string) string {
	var v any = map[string]any(o)
	for _, p := range strings.Split(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// store is all objects, and all that has ever happened to them.
type store struct {
	version int
	uids    int
	objects map[ref]object
	events  []event
	changed chan struct{} // closed at the next event
}

// event is a change; of an object that is made there is no before, of one that is deleted no after.
type event struct {
	version       int
	ref           ref
	before, after object
}

func newStore() store {
	return store{version: 1, objects: map[ref]object{}, changed: make(chan struct{})}
}

// put stores an object, with a new version.
func (s *store) put(r ref, o object) object {
	before := s.objects[r]
	s.version++
	o = o.clone()
	m := o.meta()
	m["resourceVersion"] = strconv.Itoa(s.version)
	m["name"] = r.name
	if r.namespace != "" {
		m["namespace"] = r.namespace
	}
	if uid, _ := m["uid"].(string); before != nil && uid == "" {
		m["uid"] = before.meta()["uid"]
	} else if uid == "" {
		s.uids++
		m["uid"] = fmt.Sprintf("uid-%d", s.uids)
	}
	s.objects[r] = o
	s.note(event{version: s.version, ref: r, before: before, after: o})
	return o
}

func (s *store) delete(r ref) {
	before := s.objects[r]
	s.version++
	delete(s.objects, r)
	s.note(event{version: s.version, ref: r, before: before})
}

func (s *store) note(e event) {
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// selection is which objects a list or a watch is about.
type selection struct {
	group, resource, namespace string
	fields, labels             string
}

func (s selection) has(r ref, o object) bool {
	if o == nil || r.group != s.group || r.resource != s.resource || s.namespace != "" && r.namespace != s.namespace {
		return false
	}
	labels, _ := o.meta()["labels"].(map[string]any)
	return holds(s.fields, o.at) && holds(s.labels, func(k string) string { v, _ := labels[k].(string); return v })
}

// holds judges a selector of comma-separated comparisons.
func holds(selector string, value func(string) string) bool {
	for _, term := range strings.Split(selector, ",") {
		if key, want, ok := strings.Cut(term, "!="); ok {
			if value(key) == want {
				return false
			}
			continue
		}
		if key, want, ok := strings.Cut(term, "="); ok && value(key) != strings.TrimPrefix(want, "=") {
			return false
		}
	}
	return true
}

func (s *store) list(sel selection) []object {
	var refs []ref
	for r, o := range s.objects {
		if sel.has(r, o) {
			refs = append(refs, r)
		}
	}
	slices.SortFunc(refs, func(a, b ref) int { return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name) })
	out := []object{}
	for _, r := range refs {
		out = append(out, s.objects[r])
	}
	return out
}

// merge puts a JSON merge patch over an object.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		below, isMap := v.(map[string]any)
		there, _ := into[k].(map[string]any)
		switch {
		case v == nil:
			delete(into, k)
		case isMap && there != nil:
			there = maps.Clone(there)
			merge(there, below)
			into[k] = there
		default:
			into[k] = v
		}
	}
}
