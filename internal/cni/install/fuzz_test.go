package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

func FuzzConflist(f *testing.F) {
	f.Add([]byte(bridge))
	f.Add([]byte(single))
	f.Add([]byte(`{"plugins":[{"type":"fairlead-cni"},{"type":"a"}],"plugins":[{"type":"b"}]}`))
	f.Add([]byte(`{"name":"x","plugins":[null,1,"fairlead-cni",{"type":7}],"z":{"plugins":[]}}`))
	f.Add([]byte(`{"Plugins":[],"plugins" : [ {"type":"a"} ] } `))
	f.Fuzz(func(t *testing.T, content []byte) {
		joined, err := addEntry(content, DefaultType, map[string]any{"socket": "/s"})
		if err != nil {
			if !errors.Is(err, errNoList) || joined != nil {
				t.Fatalf("%v with %q", err, joined)
			}
			return
		}
		if again, err := addEntry(joined, DefaultType, map[string]any{"socket": "/s"}); err != nil || !bytes.Equal(again, joined) {
			t.Fatalf("a second time %q became %q (%v)", joined, again, err)
		}
		before, err := parseList(content)
		if err != nil {
			t.Fatal(err)
		}
		left, err := removeEntry(joined, DefaultType)
		if err != nil {
			t.Fatal(err)
		}
		after, err := parseList(left)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before.before, after.before) || !bytes.Equal(before.after, after.after) {
			t.Fatalf("around the plugins: %q became %q", content, left)
		}
		want, got := before.others(DefaultType), after.plugins
		if len(want) != len(got) {
			t.Fatalf("%d plugins became %d", len(want), len(got))
		}
		for i := range want {
			if !bytes.Equal(want[i], got[i]) {
				t.Fatalf("plugin %q became %q", want[i], got[i])
			}
		}
		if !json.Valid(joined) || !json.Valid(left) {
			t.Fatalf("no JSON any more: %q, %q", joined, left)
		}
	})
}
