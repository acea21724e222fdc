// Package inject labels manifests, so that what is made from them is in the mesh.
//
// Promises:
//  1. It changes lines, not documents: comments, order, quotes and everything else stay as they were.
//  2. What it labels: Namespaces, Pods, and the pod templates of workloads, in lists too. Other objects pass unchanged.
//  3. Doing it twice does no harm. A label that is there gets the new value.
//  4. What is no YAML is an error, and so is YAML that cannot be labelled without being written anew: then nothing comes out.
package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxInput bounds what is read.
const maxInput = 256 << 20

// Label is what is set.
type Label struct{ Key, Value string }

// Manifests reads YAML or JSON, and gives it back labelled, with how many objects were.
func Manifests(r io.Reader, label Label) (out []byte, labelled int, err error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read manifests: %w", err)
	}
	if len(text) > maxInput {
		return nil, 0, fmt.Errorf("read manifests: more than %d MiB", maxInput>>20)
	}
	e, err := plan(text, label)
	if err != nil {
		return nil, 0, err
	}
	out = e.apply()
	if len(e.edits) == 0 {
		return out, e.labelled, nil
	}
	// YAML can be written in more ways than one foresees.
	if done, err := plan(out, label); err != nil || len(done.edits) > 0 || done.labelled != e.labelled {
		return nil, 0, errors.New("label manifests: they are written in a way that cannot be changed line by line; set the label by hand, or pass them through `kubectl create --dry-run=client -o yaml -f -` first")
	}
	return out, e.labelled, nil
}

// plan finds what is to be changed.
func plan(text []byte, label Label) (*editor, error) {
	e := &editor{lines: bytes.SplitAfter(text, []byte("\n")), label: label}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return e, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if len(doc.Content) == 1 {
			if err := e.object(doc.Content[0]); err != nil {
				return nil, err
			}
		}
	}
}

// templates are where kinds of workload have their pods' metadata.
var templates = map[string][]string{
	"Namespace": nil, "Pod": nil,
	"Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "Job": {"spec", "template"},
	"CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// editor collects what is to be changed, by lines and columns of the input.
type editor struct {
	lines    [][]byte
	label    Label
	edits    []edit
	labelled int
}

// edit puts text in place of what stands from a column on, up to another, in a line. Lines count from 0, columns in bytes.
type edit struct {
	line, from, to int
	text           string
}

// object finds what is to be labelled of one object or list.
func (e *editor) object(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return nil // a document that is no object is none of ours
	}
	kind := text(field(n, "kind"))
	if items := field(n, "items"); items != nil && strings.HasSuffix(kind, "List") && items.Kind == yaml.SequenceNode {
		for _, item := range items.Content {
			if err := e.object(item); err != nil {
				return err
			}
		}
		return nil
	}
	path, ok := templates[kind]
	if !ok {
		return nil
	}
	holder := n
	for _, name := range path {
		if holder = field(holder, name); holder == nil || holder.Kind != yaml.MappingNode {
			return nil
		}
	}
	if err := e.metadata(holder); err != nil {
		return fmt.Errorf("label %s %s: %w", kind, text(field(field(n, "metadata"), "name")), err)
	}
	e.labelled++
	return nil
}

// metadata sets the label in the metadata of an object or template.
func (e *editor) metadata(holder *yaml.Node) error {
	meta := field(holder, "metadata")
	switch {
	case meta == nil:
		return e.insert(holder, "metadata:", "  labels:", "    "+e.entry())
	case isNull(meta):
		return e.replaceNull(holder, "metadata", "{labels: {"+e.entry()+"}}")
	case meta.Kind != yaml.MappingNode:
		return errors.New("its metadata is no mapping")
	}
	labels := field(meta, "labels")
	switch {
	case labels == nil:
		return e.insert(meta, "labels:", "  "+e.entry())
	case isNull(labels):
		return e.replaceNull(meta, "labels", "{"+e.entry()+"}")
	case labels.Kind != yaml.MappingNode:
		return errors.New("its labels are no mapping")
	}
	if value := field(labels, e.label.Key); value != nil {
		return e.replace(value)
	}
	return e.insert(labels, e.entry())
}

func (e *editor) entry() string { return e.label.Key + ": " + e.label.Value }

// insert puts lines before the first key of a mapping; a mapping within braces gets them within its own.
func (e *editor) insert(into *yaml.Node, lines ...string) error {
	if into.Style&yaml.FlowStyle != 0 {
		return e.insertFlow(into, lines)
	}
	first := into.Content[0]
	at := e.edit(first, 0)
	end := "\n" + strings.Repeat(" ", first.Column-1)
	if bytes.HasSuffix(e.lines[at.line], []byte("\r\n")) {
		end = "\r" + end
	}
	at.text = strings.Join(lines, end) + end
	e.edits = append(e.edits, at)
	return nil
}

// insertFlow puts the same, as JSON, behind the opening brace.
func (e *editor) insertFlow(into *yaml.Node, lines []string) error {
	entry := fmt.Sprintf("%q: %q", e.label.Key, e.label.Value)
	for i := len(lines) - 2; i >= 0; i-- {
		entry = fmt.Sprintf("%q: {%s}", strings.Trim(lines[i], " :"), entry)
	}
	at := e.edit(into, 0)
	if !strings.HasPrefix(e.rest(at), "{") {
		return errors.New("its braces are not where they should be")
	}
	at.from, at.to = at.from+1, at.from+1
	if at.text = entry; len(into.Content) > 0 {
		at.text += ", "
	}
	e.edits = append(e.edits, at)
	return nil
}

// replace gives a scalar the label's value.
func (e *editor) replace(value *yaml.Node) error {
	if value.Kind != yaml.ScalarNode {
		return fmt.Errorf("its label %s is no text", e.label.Key)
	}
	if value.Value == e.label.Value {
		return nil
	}
	written := asWritten(value)
	at := e.edit(value, len(written))
	if !strings.HasPrefix(e.rest(at), written) {
		return fmt.Errorf("its label %s is written in a way that cannot be changed: %q", e.label.Key, strings.TrimSpace(e.rest(at)))
	}
	at.text = e.label.Value
	if written != value.Value {
		at.text = fmt.Sprintf("%q", e.label.Value)
	}
	e.edits = append(e.edits, at)
	return nil
}

// asWritten is a simple scalar with its quotes.
func asWritten(n *yaml.Node) string {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return `"` + n.Value + `"`
	case n.Style&yaml.SingleQuotedStyle != 0:
		return "'" + n.Value + "'"
	}
	return n.Value
}

// replaceNull gives a key that has no value one, within braces.
func (e *editor) replaceNull(holder *yaml.Node, key, text string) error {
	for i := 0; i+1 < len(holder.Content); i += 2 {
		k, v := holder.Content[i], holder.Content[i+1]
		if k.Value != key {
			continue
		}
		written := asWritten(k) + ":"
		at := e.edit(k, len(written))
		if !strings.HasPrefix(e.rest(at), written) || v.Value != "" && v.Line != k.Line {
			return fmt.Errorf("its %s is empty in a way that cannot be changed", key)
		}
		at.from, at.text = at.to, " "+text
		if v.Value != "" { // null or ~ is written
			at.to = e.edit(v, len(v.Value)).to
		}
		e.edits = append(e.edits, at)
		return nil
	}
	return nil
}

// edit is a change of so many bytes where a node begins. Columns of nodes count characters. YAML knows ends of lines that
// are none here: then it is the wrong place, which is found out afterwards.
func (e *editor) edit(n *yaml.Node, width int) edit {
	at := min(n.Line, len(e.lines)) - 1
	line, from := e.lines[at], 0
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(line[from:])
		from += size
	}
	return edit{line: at, from: from, to: min(from+width, len(line))}
}

// rest is the line from where a change begins.
func (e *editor) rest(at edit) string { return string(e.lines[at.line][at.from:]) }

// apply makes the changes, the last first, so that none moves another.
func (e *editor) apply() []byte {
	slices.SortStableFunc(e.edits, func(a, b edit) int {
		if a.line != b.line {
			return b.line - a.line
		}
		return b.from - a.from
	})
	for _, x := range e.edits {
		line := e.lines[x.line]
		e.lines[x.line] = slices.Concat(line[:x.from], []byte(x.text), line[x.to:])
	}
	return bytes.Join(e.lines, nil)
}

// field is the value of a key; nil if it is not there.
func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
