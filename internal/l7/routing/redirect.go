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
	scheme := strings.ToLower(r.Scheme)
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
	if path == "" || path[0] != '/' { // of OPTIONS *, of CONNECT
		path = "/"
	}
	if host == "" { // HTTP/1.0 need not say: what begins with two slashes would name a host
		return status, "/" + strings.TrimLeft(path, "/"), true
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
// both say nothing: /foo/bar with the prefix /foo and the new one /x/ is /x/bar. What is no path ("*" of OPTIONS, nothing of CONNECT)
// stays as it is.
func editPath(e *mesh.PathEdit, path, prefix string) string {
	if path == "" || path[0] != '/' {
		return path
	}
	path, query, has := strings.Cut(path, "?")
	switch e.Kind {
	case mesh.PathFull:
		path = escaped(e.Value)
	case mesh.PathMatched:
		if prefix = trimmed(prefix); !hasPrefix(path, prefix) {
			break // it was not a prefix that has matched
		}
		path = strings.TrimRight(escaped(e.Value), "/") + path[len(prefix):]
	}
	if path == "" || path[0] != '/' {
		path = "/" + path
	}
	if has {
		path += "?" + query
	}
	return path
}

// escaped writes what may not stand in a path as percent escapes, so that no value ends the path, or the line, that it is put into.
// Escapes that are there already stay.
func escaped(path string) string {
	const hex = "0123456789ABCDEF"
	bad := func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '?' || c == '#' }
	if strings.IndexFunc(path, bad) < 0 {
		return path
	}
	b := make([]byte, 0, 3*len(path))
	for i := 0; i < len(path); i++ {
		if c := path[i]; bad(rune(c)) {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
