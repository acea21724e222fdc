package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Set makes or replaces objects, of JSON that names apiVersion and kind.
func (s *Server) Set(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		o := object{}
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		r, err := refOf(o)
		if err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		s.mu.Lock()
		s.version(r, o, Request{Resource: r.resource})
		s.store.put(r, o)
		s.mu.Unlock()
	}
}

func refOf(o object) (ref, error) {
	group, _, core := strings.Cut(o.at("apiVersion"), "/")
	if !core {
		group = ""
	}
	for _, resource := range append(slices.Collect(maps.Keys(kinds)), slices.Collect(maps.Keys(custom))...) {
		if kindOf(resource) == o.at("kind") {
			return ref{group, resource, o.at("metadata.namespace"), o.at("metadata.name")}, nil
		}
	}
	return ref{}, fmt.Errorf("unknown kind %q", o.at("kind"))
}

// Delete deletes an object, by resource ("pods", "leases.coordination.k8s.io"), namespace and name.
func (s *Server) Delete(resource, namespace, name string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.ref(resource, namespace, name)
	if s.store.objects[r] == nil {
		s.t.Fatalf("delete %s %s/%s: there is none", resource, namespace, name)
	}
	s.store.delete(r)
}

func (s *Server) ref(resource, namespace, name string) ref {
	resource, group, _ := strings.Cut(resource, ".")
	return ref{group, resource, namespace, name}
}

// Text is an object as JSON, or "" if there is none.
func (s *Server) Text(resource, namespace, name string) string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.store.objects[s.ref(resource, namespace, name)]
	if o == nil {
		return ""
	}
	text, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// At is a field of an object, such as "spec.holderIdentity"; "" if there is no such object or field.
func (s *Server) At(resource, namespace, name, path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.objects[s.ref(resource, namespace, name)].at(path)
}

// Merge puts a JSON merge patch over an object.
func (s *Server) Merge(resource, namespace, name, patch string) {
	s.t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(patch), &p); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.ref(resource, namespace, name)
	if s.store.objects[r] == nil {
		s.t.Fatalf("patch %s %s/%s: there is none", resource, namespace, name)
	}
	o := s.store.objects[r].clone()
	merge(o, p)
	s.version(r, o, Request{Resource: r.resource})
	s.store.put(r, o)
}
