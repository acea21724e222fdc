package routing

import (
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// Redirect is the answer to a request, if there is to be one: a status and a Location (RFC 9110 section 10.2.2). port is the one
// that the client dialled, prefix what the match has matched of the path.
func (f *Filters) Redirect(h *exchange.Head, port uint16, prefix string) (status int, location string, ok bool) {
	r := f.redirect
	if r == nil {
		return 0, "", false
	}
	scheme := r.Scheme
	if scheme == "" {
		scheme = h.Scheme
	}
	if scheme == "" {
		scheme = "http"
	}
	host, _ := splitHost(h.Authority)
	if r.Host != "" {
		host = r.Host
	}
	path := h.Path
	if r.Path.Kind != mesh.PathKeep {
		path = editPath(&r.Path, path, prefix)
	}
	status = r.Status
	if status == 0 {
		status = 302
	}
	return status, scheme + "://" + host + portText(r, scheme, port) + path, true
}

// portText is the port in a Location: the filter's, else that of its scheme, else the one that was dialled; none where it is the
// scheme's own.
func portText(r *mesh.Redirect, scheme string, dialled uint16) string {
	own := map[string]uint16{"http": 80, "https": 443}[scheme]
	port := r.Port
	if port == 0 && r.Scheme != "" {
		port = own
	}
	if port == 0 {
		port = dialled
	}
	if port == own || port == 0 {
		return ""
	}
	return ":" + strconv.Itoa(int(port))
}

// splitHost cuts the port off.
func splitHost(authority string) (host, port string) {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i], authority[i+1:]
	}
	return authority, ""
}

// editPath changes a path, and leaves its query as it is. What is replaced of a prefix is whole elements, so slashes at the ends of
// both say nothing: /foo/bar with the prefix /foo and the new one /x/ is /x/bar.
func editPath(e *mesh.PathEdit, path, prefix string) string {
	path, query, has := strings.Cut(path, "?")
	switch e.Kind {
	case mesh.PathFull:
		path = e.Value
	case mesh.PathMatched:
		if prefix = trimmed(prefix); !hasPrefix(path, prefix) {
			break // it was not a prefix that has matched
		}
		path = trimmed(e.Value) + path[len(prefix):]
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	if has {
		path += "?" + query
	}
	return path
}
