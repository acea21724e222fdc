package cni

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNamespacesComeBackAsWritten(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadNamespaces(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first write: %v", err)
	}
	for _, want := range []map[string]bool{{}, {"shop": true, "default": false, "end": true}, {"shop": false}} {
		if err := WriteNamespaces(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadNamespaces(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("files left: %v", entries)
	}
}

func TestNamespacesRefuseWhatIsNoName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"", "a b", "a\nb enrolled", "-x", strings.Repeat("x", 64), "Ä"} {
		if err := WriteNamespaces(dir, map[string]bool{name: true}); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("files left: %v", entries)
	}
}

func TestDamagedNamespacesAreNoList(t *testing.T) {
	whole := "fairlead-namespaces 1\ndefault not-enrolled\nshop enrolled\nend 2\n"
	if _, err := parseNamespaces(strings.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) - 1 {
		if list, err := parseNamespaces(strings.NewReader(whole[:cut])); !errors.Is(err, ErrNamespaces) || list != nil {
			t.Errorf("cut at %d: %v, %v", cut, list, err)
		}
	}
	for name, text := range map[string]string{
		"another version": strings.Replace(whole, "1\n", "2\n", 1),
		"a wrong count":   strings.Replace(whole, "end 2", "end 3", 1),
		"text after":      whole + "x enrolled\n",
		"a name twice":    "fairlead-namespaces 1\na enrolled\na not-enrolled\nend 1\n",
		"another word":    "fairlead-namespaces 1\na maybe\nend 1\n",
		"zeros":           strings.Repeat("\x00", len(whole)),
		"a long line":     "fairlead-namespaces 1\n" + strings.Repeat("x", 10_000),
	} {
		if list, err := parseNamespaces(strings.NewReader(text)); !errors.Is(err, ErrNamespaces) || list != nil {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func FuzzNamespacesFile(f *testing.F) {
	f.Add("fairlead-namespaces 1\ndefault not-enrolled\nshop enrolled\nend 2\n")
	f.Add("fairlead-namespaces 1\nend 0\n")
	f.Add("fairlead-namespaces 1\na enrolled\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseNamespaces(strings.NewReader(text))
		if err != nil {
			if list != nil || !errors.Is(err, ErrNamespaces) {
				t.Fatalf("%v with %v", err, list)
			}
			return
		}
		dir := t.TempDir()
		if err := WriteNamespaces(dir, list); err != nil {
			t.Fatalf("a list that was read cannot be written: %v", err)
		}
		b, err := os.ReadFile(filepath.Join(dir, namespacesFile))
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseNamespaces(strings.NewReader(string(b)))
		if err != nil || !maps.Equal(list, again) {
			t.Fatalf("%v became %v (%v)", list, again, err)
		}
	})
}
