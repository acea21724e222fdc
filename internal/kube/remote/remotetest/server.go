// Package remotetest is an API server of objects in memory, for the tests of what speaks to one.
//
// Promises:
//  1. It answers as the API server does where the tool depends on it: paths, selectors, pages, Status objects, merge
//     patches, dry runs, reviews, and the pod proxy, behind which tests put their own handlers.
//  2. Everything is allowed unless the test says otherwise.
package remotetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Object is one of any kind.
type Object = map[string]any

// Access is somebody who wants to do something.
type Access struct {
	User                              string // empty for the user of the kubeconfig
	Verb, Group, Resource, Name, Kind string
	Namespace                         string
}

// Server is the API server. Its fields are set before it is asked.
type Server struct {
	URL     string
	Close   func()
	Version string           // v1.37.2
	Date    func() time.Time // what its clock says; the real time without
	Denied  func(Access) bool
	Page    int // greatest length of a list's page; 500
	// Made is told of every object that is created, and may change it, as those do who work in a cluster.
	Made func(Object)

	mu      sync.Mutex
	objects map[string]Object       // by path
	order   []string                // of the paths, as they came
	pods    map[string]http.Handler // behind the pod proxy, by namespace/name:port
	changed []string                // what was created, changed and deleted
}

// New starts one that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{Version: "v1.37.2", Page: 500, objects: map[string]Object{}, pods: map[string]http.Handler{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL, s.Close = h.URL, h.Close
	return s
}

// Kubeconfig writes a file by which the server is found, with one context of a namespace.
func (s *Server) Kubeconfig(dir, namespace string) (string, error) {
	path := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q}}]
users: [{name: somebody, user: {token: nothing}}]
contexts: [{name: test, context: {cluster: test, user: somebody, namespace: %q}}]
current-context: test
`, s.URL, namespace)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// Add puts objects there, in YAML, in place of those of the same name.
func (s *Server) Add(text []byte) error {
	for doc := range strings.SplitSeq("\n"+string(text), "\n---") {
		var o Object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			return err
		}
		if len(o) == 0 {
			continue
		}
		path, err := pathOf(o)
		if err != nil {
			return err
		}
		s.put(path, o)
	}
	return nil
}

// Put puts a typed object there.
func (s *Server) Put(apiVersion, kind string, object any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var o Object
	if err := json.Unmarshal(text, &o); err != nil {
		return err
	}
	o["apiVersion"], o["kind"] = apiVersion, kind
	path, err := pathOf(o)
	if err == nil {
		s.put(path, o)
	}
	return err
}

// Remove takes an object away, by the path that its reader would use.
func (s *Server) Remove(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.objects[path]
	delete(s.objects, path)
	return ok
}

// Pod puts a handler behind the pod proxy.
func (s *Server) Pod(namespace, name string, port int, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods[fmt.Sprintf("%s/%s:%d", namespace, name, port)] = h
}

// Changed is what was done, as "PATCH /api/v1/namespaces/vote {...}".
func (s *Server) Changed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.changed...)
}

// Object is one as it is now; nil if it is not there.
func (s *Server) Object(path string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

func (s *Server) put(path string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[path] == nil {
		s.order = append(s.order, path)
	}
	s.objects[path] = o
}

// plurals are the resources whose names are not made by adding an s.
var plurals = map[string]string{"EndpointSlice": "endpointslices", "NetworkPolicy": "networkpolicies", "TrafficPolicy": "trafficpolicies", "AuthorizationPolicy": "authorizationpolicies"}

// clusterWide are the kinds that have no namespace.
var clusterWide = map[string]bool{"Namespace": true, "Node": true, "ClusterRole": true, "ClusterRoleBinding": true, "CustomResourceDefinition": true}

func resourceOf(kind string) string {
	if p := plurals[kind]; p != "" {
		return p
	}
	return strings.ToLower(kind) + "s"
}

// pathOf is where an object is read.
func pathOf(o Object) (string, error) {
	api, _ := o["apiVersion"].(string)
	kind, _ := o["kind"].(string)
	meta, _ := o["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	if api == "" || kind == "" || name == "" {
		return "", fmt.Errorf("an object without apiVersion, kind or name: %v", o)
	}
	path := "/apis/" + api
	if !strings.Contains(api, "/") {
		path = "/api/" + api
	}
	if !clusterWide[kind] {
		namespace, _ := meta["namespace"].(string)
		if namespace == "" {
			return "", fmt.Errorf("%s %s has no namespace", kind, name)
		}
		path += "/namespaces/" + namespace
	}
	return path + "/" + resourceOf(kind) + "/" + name, nil
}

func (s *Server) status(w http.ResponseWriter, code int, reason metav1.StatusReason, format string, args ...any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: "Failure", Reason: reason, Message: fmt.Sprintf(format, args...), Code: int32(code)})
}
