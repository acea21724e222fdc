package kubetest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// answer serves what is done at once.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, req Request) {
	body := object{}
	if r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH" {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.Verb == "list" {
		s.list(w, r, req)
		return
	}
	at := ref{req.Group, req.Resource, req.Namespace, req.Name}
	if req.Verb == "create" {
		at.name, _ = body.meta()["name"].(string)
	}
	is := s.store.objects[at]
	switch {
	case req.Verb == "create" && is != nil:
		refuse(w, http.StatusConflict, "AlreadyExists", at.name+" already exists")
	case req.Verb != "create" && is == nil:
		refuse(w, http.StatusNotFound, "NotFound", at.name+" not found")
	case req.Verb == "get":
		reply(w, http.StatusOK, typed(is, req))
	case req.Verb == "create":
		s.version(at, body, req)
		reply(w, http.StatusCreated, typed(s.store.put(at, body), req))
	case req.Verb == "delete":
		s.store.delete(at)
		reply(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case req.Verb == "patch":
		patched := is.clone()
		merge(patched, body)
		s.version(at, patched, req)
		reply(w, http.StatusOK, typed(s.store.put(at, patched), req))
	default:
		if v, _ := body.meta()["resourceVersion"].(string); v != "" && v != is.meta()["resourceVersion"] {
			refuse(w, http.StatusConflict, "Conflict", at.name+" has been changed")
			return
		}
		s.version(at, body, req)
		reply(w, http.StatusOK, typed(s.store.put(at, body), req))
	}
}

func (s *Server) version(at ref, o object, req Request) {
	if _, is := custom[req.Resource]; is {
		versioned(s.store.objects[at], o, req.sub)
	}
}

// typed is an object with what says which it is.
func typed(o object, req Request) object {
	o = o.clone()
	o["kind"], o["apiVersion"] = kindOf(req.Resource), apiVersion(req)
	return o
}

func apiVersion(req Request) string {
	if req.Group == "" {
		return req.version
	}
	return req.Group + "/" + req.version
}

func selected(r *http.Request, req Request) selection {
	q := r.URL.Query()
	return selection{req.Group, req.Resource, req.Namespace, q.Get("fieldSelector"), q.Get("labelSelector")}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, req Request) {
	items := s.store.list(selected(r, req))
	reply(w, http.StatusOK, map[string]any{
		"kind": kindOf(req.Resource) + "List", "apiVersion": apiVersion(req),
		"metadata": map[string]any{"resourceVersion": strconv.Itoa(s.store.version)}, "items": items,
	})
}

// watch tells events until the client goes.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, req Request, lists bool) {
	q, sel := r.URL.Query(), selected(r, req)
	initial := q.Get("sendInitialEvents") == "true"
	if initial && lists {
		refuse(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	tell := func(kind string, o object) { _ = out.Encode(map[string]any{"type": kind, "object": typed(o, req)}) }
	since, _ := strconv.Atoi(q.Get("resourceVersion"))
	s.mu.Lock()
	ended := s.ended
	if initial {
		for _, o := range s.store.list(sel) {
			tell("ADDED", o)
		}
		since = s.store.version
		tell("BOOKMARK", object{"metadata": map[string]any{
			"resourceVersion": strconv.Itoa(since), "annotations": map[string]any{"k8s.io/initial-events-end": "true"},
		}})
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		for _, e := range s.store.events {
			if e.version > since {
				since = e.version
				tellEvent(tell, sel, e)
			}
		}
		changed, over := s.store.changed, s.ended != ended && !s.knows(req)
		s.mu.Unlock()
		if over {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-time.After(time.Minute):
			return // as servers end watches
		}
	}
}

func tellEvent(tell func(string, object), sel selection, e event) {
	switch before, after := sel.has(e.ref, e.before), sel.has(e.ref, e.after); {
	case after && !before:
		tell("ADDED", e.after)
	case after:
		tell("MODIFIED", e.after)
	case before:
		gone := e.before.clone()
		gone.meta()["resourceVersion"] = strconv.Itoa(e.version)
		tell("DELETED", gone)
	}
}

func (s *Server) tokenReview(w http.ResponseWriter, r *http.Request, review func(string) map[string]any) {
	body := object{}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	body["status"] = map[string]any{"error": "invalid bearer token"}
	if review != nil {
		if status := review(body.at("spec.token")); status != nil {
			body["status"] = status
		}
	}
	reply(w, http.StatusCreated, body)
}
