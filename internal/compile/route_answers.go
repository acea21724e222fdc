package compile

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"fairlead.io/fairlead/internal/mesh"
)

const (
	defaultRedirect = 302
	defaultMaxAge   = 5 // seconds
)

var corsOrigin = regexp.MustCompile(`^(https?)://((?:\*\.)?(?:[a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(?::([0-9]{1,5}))?$`)

func readHost(h *gatewayv1.PreciseHostname) (string, error) {
	if h == nil {
		return "", nil
	}
	if len(*h) > 253 || !dnsSubdomain.MatchString(string(*h)) {
		return "", fmt.Errorf("hostname: %.300q is not a host name", *h)
	}
	return string(*h), nil
}

func readRedirect(f *gatewayv1.HTTPRequestRedirectFilter, prefix bool) (*mesh.Redirect, error) {
	out := &mesh.Redirect{Status: defaultRedirect}
	var err error
	if out.Scheme = deref(f.Scheme); out.Scheme != "" && out.Scheme != "http" && out.Scheme != "https" {
		return nil, fmt.Errorf("scheme: %.100q is not supported", out.Scheme)
	}
	if out.Host, err = readHost(f.Hostname); err != nil {
		return nil, err
	}
	if out.Path, err = readPathEdit(f.Path, prefix); err != nil {
		return nil, err
	}
	if f.Port != nil {
		if *f.Port < 1 || *f.Port > 65535 {
			return nil, fmt.Errorf("port: %d is not a port", *f.Port)
		}
		out.Port = uint16(*f.Port)
	}
	if f.StatusCode != nil {
		if !slices.Contains([]int{301, 302, 303, 307, 308}, *f.StatusCode) {
			return nil, fmt.Errorf("statusCode: %d is not supported", *f.StatusCode)
		}
		out.Status = *f.StatusCode
	}
	return out, nil
}

func readRewrite(f *gatewayv1.HTTPURLRewriteFilter, prefix bool) (*mesh.Rewrite, error) {
	host, err := readHost(f.Hostname)
	if err != nil {
		return nil, err
	}
	path, err := readPathEdit(f.Path, prefix)
	if err != nil {
		return nil, err
	}
	return &mesh.Rewrite{Host: host, Path: path}, nil
}

func readPathEdit(p *gatewayv1.HTTPPathModifier, prefix bool) (mesh.PathEdit, error) {
	if p == nil {
		return mesh.PathEdit{}, nil
	}
	var out mesh.PathEdit
	switch {
	case p.Type == gatewayv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil && p.ReplacePrefixMatch == nil:
		out = mesh.PathEdit{Kind: mesh.PathFull, Value: *p.ReplaceFullPath}
	case p.Type == gatewayv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil && p.ReplaceFullPath == nil:
		out = mesh.PathEdit{Kind: mesh.PathMatched, Value: *p.ReplacePrefixMatch}
		if !prefix {
			return out, errors.New("path: ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix")
		}
	case p.Type == gatewayv1.FullPathHTTPPathModifier || p.Type == gatewayv1.PrefixMatchHTTPPathModifier:
		return out, fmt.Errorf("path: type %s and what is to be put in its place do not go together", p.Type)
	default:
		return out, fmt.Errorf("path: type %.100q is not supported", p.Type)
	}
	if out.Kind == mesh.PathMatched && out.Value == "" {
		return out, nil
	}
	if len(out.Value) > maxPath || !strings.HasPrefix(out.Value, "/") || !pathChars.MatchString(out.Value) {
		return out, fmt.Errorf("path: %.300q is not a path", out.Value)
	}
	return out, nil
}

func readCORS(f *gatewayv1.HTTPCORSFilter) (*mesh.CORS, error) {
	out := &mesh.CORS{Credentials: f.AllowCredentials != nil && *f.AllowCredentials, MaxAge: defaultMaxAge * time.Second}
	for _, o := range f.AllowOrigins {
		origin, err := readOrigin(string(o))
		if err != nil {
			return nil, fmt.Errorf("allowOrigins: %w", err)
		}
		out.Origins = append(out.Origins, origin)
	}
	for _, m := range f.AllowMethods {
		if m != "*" && !methods[gatewayv1.HTTPMethod(m)] {
			return nil, fmt.Errorf("allowMethods: %.100q is not supported", m)
		}
		out.Methods = append(out.Methods, string(m))
	}
	var err error
	if out.Headers, err = readNames("allowHeaders", f.AllowHeaders); err != nil {
		return nil, err
	}
	if out.Expose, err = readNames("exposeHeaders", f.ExposeHeaders); err != nil {
		return nil, err
	}
	for _, list := range []struct {
		name  string
		items []string
		most  int
		alone bool // "*" stands alone
	}{
		{"allowOrigins", out.Origins, maxCORS, true}, {"allowMethods", out.Methods, len(methods), true},
		{"allowHeaders", out.Headers, maxCORS, true}, {"exposeHeaders", out.Expose, maxCORS, false},
	} {
		if err := atMost(list.name, len(list.items), list.most); err != nil {
			return nil, err
		}
		if list.alone && len(list.items) > 1 && slices.Contains(list.items, "*") {
			return nil, fmt.Errorf("%s: * stands alone", list.name)
		}
	}
	if f.MaxAge < 0 {
		return nil, fmt.Errorf("maxAge: %d", f.MaxAge)
	}
	if f.MaxAge > 0 {
		out.MaxAge = time.Duration(f.MaxAge) * time.Second
	}
	return out, nil
}

// readOrigin writes an origin as a browser does: in lower case, and without the port of its scheme.
func readOrigin(text string) (string, error) {
	if text == "*" {
		return text, nil
	}
	m := corsOrigin.FindStringSubmatch(text)
	if m == nil || len(text) > 253 {
		return "", fmt.Errorf("%.300q is not an origin", text)
	}
	out := m[1] + "://" + strings.ToLower(m[2])
	if m[3] == "" {
		return out, nil
	}
	port, err := strconv.ParseUint(m[3], 10, 16)
	if err != nil || port == 0 {
		return "", fmt.Errorf("%.300q: %s is not a port", text, m[3])
	}
	if m[1] == "http" && port == 80 || m[1] == "https" && port == 443 {
		return out, nil
	}
	return fmt.Sprintf("%s:%d", out, port), nil
}

func readNames(list string, from []gatewayv1.HTTPHeaderName) ([]string, error) {
	var out []string
	for _, n := range from {
		if err := checkField(string(n)); err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		out = append(out, string(n))
	}
	return out, nil
}
