package compile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"fairlead.io/fairlead/api/v1alpha1"
)

// Limits of what is read.
const (
	maxFile      = 64 << 20
	maxDocument  = 1 << 20
	maxDocuments = 100_000
)

// document is one YAML document of a file: an object, something that does not matter, or something that is
// wrong; of what is wrong, the key is there if it could be read.
type document struct {
	Object
	err     error
	ignored string // what it is, if it is of no kind that matters
	known   bool   // Key is set
}

// decode reads a file of YAML documents.
func decode(file string, text []byte) []document {
	if len(text) > maxFile {
		return []document{{Object: Object{Origin: Origin{File: file, Line: 1}}, err: fmt.Errorf("file of %d bytes, at most %d are read", len(text), maxFile)}}
	}
	var out []document
	for _, part := range split(text) {
		if len(out) == maxDocuments {
			return append(out, document{Object: Object{Origin: Origin{File: file, Line: part.line}}, err: errors.New("too many documents")})
		}
		d := decodeOne(part.text)
		if d == nil {
			continue
		}
		d.File, d.Line = file, part.line
		if d.err != nil {
			d.Line, d.err = errorLine(d.err, part.line)
		}
		out = append(out, *d)
	}
	return out
}

type part struct {
	text []byte
	line int
}

// split cuts at lines that begin with "---", as YAML does. line is the first that is not empty.
func split(text []byte) []part {
	var out []part
	var current []byte
	start, n := 0, 0
	flush := func() {
		if start > 0 {
			out = append(out, part{current, start})
		}
		current, start = nil, 0
	}
	for line := range bytes.Lines(text) {
		n++
		if bytes.HasPrefix(line, []byte("---")) && (len(line) == 3 || bytes.ContainsRune([]byte(" \t\r\n"), rune(line[3]))) {
			flush()
			line = []byte("\n") // keeps the line numbers of errors
			current = append(current, line...)
			continue
		}
		t := bytes.TrimSpace(line)
		if start == 0 {
			if len(t) == 0 || t[0] == '#' {
				continue
			}
			start, current = n, nil
		}
		current = append(current, line...)
	}
	flush()
	return out
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// errorLine finds the line that an error of the YAML parser names, in the file.
func errorLine(err error, start int) (int, error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return start, err
	}
	n, convErr := strconv.Atoi(m[1])
	if convErr != nil || n < 1 || n > 1<<30 {
		return start, err
	}
	return start + n - 1, err
}

func decodeOne(text []byte) *document {
	if len(text) > maxDocument {
		return &document{err: fmt.Errorf("document of %d bytes, at most %d are read", len(text), maxDocument)}
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil {
		return &document{err: fmt.Errorf("read YAML: %w", err)}
	}
	d := &document{}
	value := newValue(head.APIVersion, head.Kind)
	if value == nil {
		if head.Kind == "" || head.APIVersion == "" {
			d.err = errors.New("no apiVersion or no kind")
			return d
		}
		d.ignored = head.APIVersion + " " + head.Kind
		return d
	}
	d.Key = Key{Kind: Kind(head.Kind), Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
	if d.Namespace == "" && d.Kind != Namespace && d.Kind != Node {
		d.Namespace = "default"
	}
	if d.err = checkName(d.Key); d.err != nil {
		return d
	}
	d.known = true
	if err := yaml.UnmarshalStrict(text, value); err != nil {
		d.err = fmt.Errorf("read YAML: %w", err)
		return d
	}
	value.SetNamespace(d.Namespace)
	d.Value = value
	return d
}

func newValue(apiVersion, kind string) metav1.Object {
	switch apiVersion + " " + kind {
	case "v1 Namespace":
		return &corev1.Namespace{}
	case "v1 Node":
		return &corev1.Node{}
	case "v1 ServiceAccount":
		return &corev1.ServiceAccount{}
	case "v1 Pod":
		return &corev1.Pod{}
	case "v1 Service":
		return &corev1.Service{}
	case "discovery.k8s.io/v1 EndpointSlice":
		return &discoveryv1.EndpointSlice{}
	case "gateway.networking.k8s.io/v1 HTTPRoute", "gateway.networking.k8s.io/v1beta1 HTTPRoute":
		return &gatewayv1.HTTPRoute{}
	case "gateway.networking.k8s.io/v1 GRPCRoute":
		return &gatewayv1.GRPCRoute{}
	case "gateway.networking.k8s.io/v1 TLSRoute":
		return &gatewayv1.TLSRoute{}
	case "gateway.networking.k8s.io/v1 TCPRoute":
		return &gatewayv1.TCPRoute{}
	case "gateway.networking.k8s.io/v1 ReferenceGrant", "gateway.networking.k8s.io/v1beta1 ReferenceGrant":
		return &gatewayv1.ReferenceGrant{}
	case "fairlead.io/v1alpha1 TrafficPolicy":
		return &v1alpha1.TrafficPolicy{}
	case "fairlead.io/v1alpha1 AuthorizationPolicy":
		return &v1alpha1.AuthorizationPolicy{}
	}
	return nil
}
