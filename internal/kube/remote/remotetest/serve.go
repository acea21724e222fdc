package remotetest

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// forms of a path.
var (
	proxied  = regexp.MustCompile(`^/api/v1/namespaces/([^/]+)/pods/http:([^/]+:\d+)/proxy(/.*)$`)
	resource = regexp.MustCompile(`^/apis?/(?:([^/]+\.[^/]+|apps|batch|policy)/)?(v[^/]+)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?$`)
)

// ServeHTTP answers as the API server does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Date != nil {
		w.Header().Set("Date", s.Date().UTC().Format(http.TimeFormat))
	}
	w.Header().Set("Content-Type", "application/json")
	if m := proxied.FindStringSubmatch(r.URL.Path); m != nil {
		s.proxy(w, r, m[1]+"/"+m[2], m[3])
		return
	}
	if r.URL.Path == "/version" {
		_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": s.Version})
		return
	}
	m := resource.FindStringSubmatch(r.URL.Path)
	if m == nil {
		s.status(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	a := Access{Verb: verbOf(r, m[5]), Group: m[1], Namespace: m[3], Resource: m[4], Name: m[5]}
	if strings.HasSuffix(a.Resource, "accessreviews") {
		s.review(w, r)
		return
	}
	if s.Denied != nil && s.Denied(a) {
		s.status(w, http.StatusForbidden, metav1.StatusReasonForbidden, "%s is forbidden: User %q cannot %s resource %q", a.Resource, "somebody", a.Verb, a.Resource)
		return
	}
	switch a.Verb {
	case "list":
		s.list(w, r, a)
	case "create":
		s.create(w, r)
	default:
		s.one(w, r, a.Verb)
	}
}

func verbOf(r *http.Request, name string) string {
	switch {
	case r.Method == http.MethodGet && name == "":
		return "list"
	case r.Method == http.MethodGet:
		return "get"
	case r.Method == http.MethodPost:
		return "create"
	}
	return strings.ToLower(r.Method)
}

func (s *Server) proxy(w http.ResponseWriter, r *http.Request, pod, path string) {
	s.mu.Lock()
	h := s.pods[pod]
	s.mu.Unlock()
	if h == nil {
		s.status(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "error trying to reach service: dial tcp: connection refused")
		return
	}
	to := r.Clone(r.Context())
	to.URL.Path = path
	w.Header().Del("Content-Type")
	h.ServeHTTP(w, to)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, a Access) {
	byLabel, err := labels.Parse(r.FormValue("labelSelector"))
	if err != nil {
		s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
		return
	}
	byField, err := fields.ParseSelector(r.FormValue("fieldSelector"))
	if err != nil {
		s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
		return
	}
	prefix := strings.TrimSuffix(r.URL.Path, a.Resource)
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []Object{}
	for _, path := range s.order {
		o := s.objects[path]
		dir := path[:strings.LastIndexByte(path, '/')]
		if o == nil || !strings.HasPrefix(dir, prefix) || !strings.HasSuffix(dir, "/"+a.Resource) {
			continue
		}
		if byLabel.Matches(labels.Set(labelsOf(o))) && matches(byField, o) {
			items = append(items, o)
		}
	}
	from, _ := strconv.Atoi(r.FormValue("continue"))
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	meta := map[string]any{"resourceVersion": "1"}
	if limit = min(limit, s.Page); limit > 0 && len(items) > from+limit {
		meta["continue"] = strconv.Itoa(from + limit)
		items = items[:from+limit]
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items[from:]})
}

func labelsOf(o Object) map[string]string {
	all := map[string]string{}
	meta, _ := o["metadata"].(map[string]any)
	of, _ := meta["labels"].(map[string]any)
	for k, v := range of {
		all[k], _ = v.(string)
	}
	return all
}

// matches looks at fields by their path, as "involvedObject.name".
func matches(selector fields.Selector, o Object) bool {
	for _, r := range selector.Requirements() {
		var v any = o
		for part := range strings.SplitSeq(r.Field, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		if text, _ := v.(string); text != r.Value {
			return false
		}
	}
	return true
}

func (s *Server) one(w http.ResponseWriter, r *http.Request, verb string) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[r.URL.Path]
	if o == nil {
		s.status(w, http.StatusNotFound, metav1.StatusReasonNotFound, "%s not found", r.URL.Path)
		return
	}
	switch verb {
	case "patch":
		var patch Object
		if err := json.Unmarshal(body, &patch); err != nil {
			s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
			return
		}
		merge(o, patch)
		s.changed = append(s.changed, "PATCH "+r.URL.Path+" "+string(body))
	case "delete":
		delete(s.objects, r.URL.Path)
		s.changed = append(s.changed, "DELETE "+r.URL.Path)
	}
	_ = json.NewEncoder(w).Encode(o)
}

// merge is RFC 7396.
func merge(o, patch Object) {
	for k, v := range patch {
		if v == nil {
			delete(o, k)
			continue
		}
		into, isMap := o[k].(map[string]any)
		from, fromMap := v.(map[string]any)
		if fromMap && !isMap {
			into = map[string]any{}
			o[k] = into
		}
		if fromMap {
			merge(into, from)
			continue
		}
		o[k] = v
	}
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var o Object
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
		return
	}
	path, err := pathOf(o)
	if err != nil {
		s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
		return
	}
	if s.Object(path) != nil {
		s.status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists, "%s already exists", path)
		return
	}
	if r.FormValue("dryRun") == "" {
		if s.Made != nil {
			s.Made(o)
		}
		s.put(path, o)
		s.mu.Lock()
		s.changed = append(s.changed, "POST "+path)
		s.mu.Unlock()
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(o)
}

// review answers who may do what.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var o struct {
		metav1.TypeMeta
		Spec struct {
			User               string `json:"user,omitempty"`
			ResourceAttributes struct {
				Namespace, Verb, Group, Resource, Name string
			} `json:"resourceAttributes"`
		} `json:"spec"`
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		s.status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "%v", err)
		return
	}
	at := o.Spec.ResourceAttributes
	o.Status.Allowed = s.Denied == nil || !s.Denied(Access{User: o.Spec.User, Verb: at.Verb, Group: at.Group, Resource: at.Resource, Namespace: at.Namespace, Name: at.Name})
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(o)
}
