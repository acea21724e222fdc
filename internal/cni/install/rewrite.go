package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
)

// errNoList is wrapped when a text is no list of plugins.
var errNoList = errors.New("no list of plugins")

// list is a .conflist as text: what stands before the array of plugins, its elements, and what stands after it.
type list struct {
	before, after []byte
	plugins       []json.RawMessage
	raw           []byte // the array as it stands
}

// parseList finds the array of plugins. Names are compared exactly and the last one counts, as libcni has it.
func parseList(content []byte) (*list, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: no object", errNoList)
	}
	start, end := int64(-1), int64(-1)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoList, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoList, err)
		}
		if name == "plugins" {
			end = dec.InputOffset()
			start = end - int64(len(value))
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoList, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: text after the object", errNoList)
	}
	if start < 0 {
		return nil, fmt.Errorf("%w: no plugins", errNoList)
	}
	l := &list{before: content[:start], raw: content[start:end], after: content[end:]}
	if err := json.Unmarshal(l.raw, &l.plugins); err != nil {
		return nil, fmt.Errorf("%w: plugins: %w", errNoList, err)
	}
	return l, nil
}

// text puts the list together again with other plugins.
func (l *list) text(plugins []json.RawMessage) []byte {
	var b bytes.Buffer
	b.Write(l.before)
	b.WriteString("[")
	for i, p := range plugins {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n    ")
		b.Write(p)
	}
	b.WriteString("\n  ]")
	b.Write(l.after)
	return b.Bytes()
}

// typeOf is a plugin's type, "" when it has none.
func typeOf(plugin json.RawMessage) string {
	var fields map[string]any
	if err := json.Unmarshal(plugin, &fields); err != nil {
		return ""
	}
	t, _ := fields["type"].(string)
	return t
}

func (l *list) others(kind string) []json.RawMessage {
	var list []json.RawMessage
	for _, p := range l.plugins {
		if typeOf(p) != kind {
			list = append(list, p)
		}
	}
	return list
}

// addEntry returns the list with our entry as the last plugin, and none of ours elsewhere. A list that is so already
// comes back as it is.
func addEntry(content []byte, kind string, fields map[string]any) ([]byte, error) {
	l, err := parseList(content)
	if err != nil {
		return nil, err
	}
	entry := maps.Clone(fields)
	if entry == nil {
		entry = make(map[string]any)
	}
	entry["type"] = kind
	ours, err := json.Marshal(entry)
	if err != nil {
		return nil, fmt.Errorf("encode entry: %w", err)
	}
	others := l.others(kind)
	if len(others) == 0 {
		return nil, fmt.Errorf("%w: no plugin but ours", errNoList)
	}
	if len(others) == len(l.plugins)-1 && isEqual(l.plugins[len(l.plugins)-1], ours) {
		return content, nil
	}
	return l.text(append(others, ours)), nil
}

// removeEntry returns the list without our entry.
func removeEntry(content []byte, kind string) ([]byte, error) {
	l, err := parseList(content)
	if err != nil {
		return nil, err
	}
	others := l.others(kind)
	if len(others) == len(l.plugins) {
		return content, nil
	}
	return l.text(others), nil
}

func isEqual(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// listFromSingle makes a list of the one plugin of a .conf, which stays as it was written.
func listFromSingle(content []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("{\n")
	for _, key := range []string{"cniVersion", "name"} {
		if value, ok := fields[key]; ok {
			fmt.Fprintf(&b, "  %q: %s,\n", key, value)
		}
	}
	fmt.Fprintf(&b, "  \"plugins\": [\n    %s\n  ]\n}\n", bytes.TrimSpace(content))
	return b.Bytes(), nil
}
