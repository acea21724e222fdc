package kubetest

import (
	"net/http"
	"reflect"
)

// custom are the resources that there are after Define, all in one version.
var custom = map[string]string{
	"httproutes": "HTTPRoute", "grpcroutes": "GRPCRoute", "tlsroutes": "TLSRoute", "tcproutes": "TCPRoute", "referencegrants": "ReferenceGrant",
	"trafficpolicies": "TrafficPolicy", "authorizationpolicies": "AuthorizationPolicy",
}

// Define has the server know the custom resources of a group in that version, or know them no more with the version "".
func (s *Server) Define(group, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defined[group] = version
	if version != "" {
		return
	}
	for r := range s.store.objects {
		if r.group == group {
			s.store.delete(r)
		}
	}
	s.ended++ // watches of what is gone end
}

// knows tells whether there is such a resource. The caller holds the mutex.
func (s *Server) knows(req Request) bool {
	if _, is := kinds[req.Resource]; is {
		return req.sub == ""
	}
	_, is := custom[req.Resource]
	return is && s.defined[req.Group] != "" && s.defined[req.Group] == req.version && (req.sub == "" || req.sub == "status")
}

func kindOf(resource string) string {
	if kind, is := kinds[resource]; is {
		return kind
	}
	return custom[resource]
}

// versioned gives a custom object the generation of its spec, and of an update of the status the spec that is there.
func versioned(before, o object, sub string) {
	if before == nil {
		o.meta()["generation"] = 1
		return
	}
	if sub == "status" {
		status := o["status"]
		for k := range o {
			delete(o, k)
		}
		for k, v := range before.clone() {
			o[k] = v
		}
		o["status"] = status
		return
	}
	generation := before.meta()["generation"]
	if !reflect.DeepEqual(before["spec"], o.clone()["spec"]) {
		n, _ := number(generation)
		generation = n + 1
	}
	o.meta()["generation"] = generation
}

func number(v any) (int, bool) {
	switch v := v.(type) {
	case int:
		return v, true
	case float64:
		return int(v), true
	}
	return 0, false
}

// unknown answers for a resource that there is not.
func unknown(w http.ResponseWriter) {
	refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
}
