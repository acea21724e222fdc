// Package kubetest is as much of a Kubernetes API server as tests of a controller need: objects with versions and
// conflicts, lists, watches with and without initial events, selectors, tokens, and who may do what. It knows no
// schema: an object is what its JSON says. For tests only.
package kubetest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Server is a running API server.
type Server struct {
	URL string
	// Kubeconfig is a file for the user "admin"; KubeconfigOf makes others.
	Kubeconfig string

	t    testing.TB
	http *httptest.Server

	mu       sync.Mutex // protects what follows
	store    store
	requests []Request
	allow    func(Request) bool
	fails    func(Request) int
	review   func(token string) map[string]any
	lists    bool
	down     bool
	defined  map[string]string // versions of custom resources, by group
	ended    int
}

// Request is what somebody has asked for, in the words of RBAC.
type Request struct {
	User, Verb, Group, Resource, Namespace, Name string

	version, sub string
}

// Of is the resource as RBAC has it, with its subresource.
func (r Request) Of() string {
	if r.sub != "" {
		return r.Resource + "/" + r.sub
	}
	return r.Resource
}

func (r Request) String() string {
	return fmt.Sprintf("%s: %s %s %s/%s", r.User, r.Verb, r.groupResource(), r.Namespace, r.Name)
}

func (r Request) groupResource() string {
	if r.Group == "" {
		return r.Of()
	}
	return r.Of() + "." + r.Group
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, store: newStore(), defined: map[string]string{}}
	s.http = httptest.NewUnstartedServer(s)
	s.http.EnableHTTP2 = true
	s.http.StartTLS() // a client shows no token without
	s.URL = s.http.URL
	t.Cleanup(func() { s.Close() })
	s.Kubeconfig = s.KubeconfigOf("admin")
	return s
}

// Close ends all requests and the server.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// KubeconfigOf makes a kubeconfig with which a client is that user.
func (s *Server) KubeconfigOf(user string) string {
	name := filepath.Join(s.t.TempDir(), "kubeconfig")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority-data": %q}}],
		"users": [{"name": "u", "user": {"token": %q}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`, s.URL, base64.StdEncoding.EncodeToString(ca), user)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// Allow has requests refused that are not allowed.
func (s *Server) Allow(allow func(Request) bool) { s.set(func() { s.allow = allow }) }

// Fail has requests answered with a status that is not 0.
func (s *Server) Fail(fails func(Request) int) { s.set(func() { s.fails = fails }) }

// ReviewTokens answers TokenReviews: with their status.
func (s *Server) ReviewTokens(review func(token string) map[string]any) {
	s.set(func() { s.review = review })
}

// OnlyLists has the server refuse to send initial events, as one before Kubernetes 1.32 does.
func (s *Server) OnlyLists() { s.set(func() { s.lists = true }) }

// Down has the server drop every connection, or serve again.
func (s *Server) Down(down bool) {
	s.set(func() { s.down = down })
	if down {
		s.http.CloseClientConnections()
	}
}

// Requests are all that have been made.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

func (s *Server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := parse(r)
	if err != nil {
		refuse(w, http.StatusNotFound, "NotFound", err.Error())
		return
	}
	s.mu.Lock()
	if !s.knows(req) {
		s.mu.Unlock()
		unknown(w)
		return
	}
	s.requests = append(s.requests, req)
	down, lists, review := s.down, s.lists, s.review
	allowed := s.allow == nil || s.allow(req)
	status := 0
	if s.fails != nil {
		status = s.fails(req)
	}
	s.mu.Unlock()
	switch {
	case down:
		panic(http.ErrAbortHandler)
	case !allowed:
		refuse(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s %q is forbidden: %s", req.groupResource(), req.Name, req))
	case status != 0:
		reason := map[int]string{410: "Expired", 409: "Conflict", 429: "TooManyRequests", 503: "ServiceUnavailable"}[status]
		refuse(w, status, reason, "told to fail")
	case req.Resource == "tokenreviews":
		s.tokenReview(w, r, review)
	case req.Verb == "watch":
		s.watch(w, r, req, lists)
	default:
		s.answer(w, r, req)
	}
}

// parse reads a path as API servers do: /api/v1 or /apis/GROUP/VERSION, then namespaces/NAME/ if there is more,
// resource, name and subresource.
func parse(r *http.Request) (Request, error) {
	user, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	req := Request{User: user}
	part := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(part) > 2 && part[0] == "api":
		req.version, part = part[1], part[2:]
	case len(part) > 3 && part[0] == "apis":
		req.Group, req.version, part = part[1], part[2], part[3:]
	default:
		return req, fmt.Errorf("no API at %s", r.URL.Path)
	}
	if part[0] == "namespaces" && len(part) > 2 {
		req.Namespace, part = part[1], part[2:]
	}
	part = append(part, "", "")
	req.Resource, req.Name, req.sub = part[0], part[1], part[2]
	req.Verb = map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[r.Method]
	if r.Method == "GET" && req.Name == "" {
		req.Verb = "list"
		if r.URL.Query().Get("watch") != "" {
			req.Verb = "watch"
		}
		req.Name, _ = strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=") // as RBAC sees it
		if strings.ContainsAny(req.Name, "=,") {
			req.Name = ""
		}
	}
	return req, nil
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
	})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}
