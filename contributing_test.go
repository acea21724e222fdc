package fairlead_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryDirectoryHasItsSentence holds CONTRIBUTING.md to the packages that there are.
func TestEveryDirectoryHasItsSentence(t *testing.T) {
	page, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	named := namedDirectories(string(page))
	for path := range goList(t) {
		if isOurs(path) && path != "." && !isNamed(named, path) {
			t.Errorf("CONTRIBUTING.md has no sentence for %s", path)
		}
	}
}

var quoted = regexp.MustCompile("`([^`]+)`")

// namedDirectories are those in the first column of the table.
func namedDirectories(page string) map[string]bool {
	named := make(map[string]bool)
	for line := range strings.Lines(page) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			cell, _, _ = strings.Cut("`"+cell, "|")
			for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
				named[match[1]] = true
			}
		}
	}
	return named
}

// isNamed is true also of what lies below a named directory, but not of what lies below one at the top.
func isNamed(named map[string]bool, path string) bool {
	elements := strings.Split(path, "/")
	for n := len(elements); n >= min(2, len(elements)); n-- {
		if named[strings.Join(elements[:n], "/")] {
			return true
		}
	}
	return false
}

func TestIsNamed(t *testing.T) {
	named := namedDirectories("Prose with `internal/prose` in it.\n" +
		"| `internal/l7` | Everything, and `internal/other`. |\n| `test/a`, `test/b` | Two. |\n| `top` | One. |\n")
	for path, want := range map[string]bool{
		"internal/l7": true, "internal/l7/h1": true, "test/b": true, "top": true, "top/below": false,
		"internal/l8": false, "internal/other": false, "internal/prose": false, "test": false,
	} {
		if got := isNamed(named, path); got != want {
			t.Errorf("%s: %t, want %t", path, got, want)
		}
	}
}
