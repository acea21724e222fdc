package fairlead_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the pages that these tests hold to the tree.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	designs, err := filepath.Glob("docs/design/*.md")
	if err != nil {
		t.Fatal(err)
	}
	measured, err := filepath.Glob("docs/performance/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Concat(names, designs, measured, []string{
		"README.md", "CONTRIBUTING.md", "deploy/daemonset/README.md", "examples/vote/README.md",
	}) {
		pages[name] = read(t, name)
	}
	if len(pages) < 8 {
		t.Fatalf("only %d documents found", len(pages))
	}
	return pages
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// goSources are the Go files of the whole tree, other modules included.
func goSources(t *testing.T, wanted func(path string) bool) map[string]string {
	t.Helper()
	sources := map[string]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go") && wanted(path):
			sources[path] = read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

var (
	testName   = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+(?:/[a-z-]+)?)`")
	testStep   = regexp.MustCompile(`(?m)^\t\t\{"([a-z-]+)", test[A-Z]\w*\},$`)
	testFunc   = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z0-9]*)\(t \*testing\.T\)`)
	metricRow  = regexp.MustCompile("(?m)^\\| `(fairlead_[a-z_]+)` \\| (counter|gauge|histogram) \\|")
	metricText = regexp.MustCompile(`"(fairlead_[a-z_]*[a-z])"`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z0-9-]+):.*##`)
	makeCall   = regexp.MustCompile("(?m)(?:`|^    )make ([a-z0-9-]+)")
	link       = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

func found(re *regexp.Regexp, text string) map[string]bool {
	names := map[string]bool{}
	for _, match := range re.FindAllStringSubmatch(text, -1) {
		names[match[1]] = true
	}
	return names
}

// TestDocumentedTestsExist: who names a test as proof must name one that there is. The steps of the test on a cluster are
// named as `go test -run` has them.
func TestDocumentedTestsExist(t *testing.T) {
	there := map[string]bool{}
	for _, src := range goSources(t, func(path string) bool { return strings.HasSuffix(path, "_test.go") }) {
		maps.Copy(there, found(testFunc, src))
	}
	steps := found(testStep, read(t, "test/e2e/steps_test.go"))
	if len(steps) < 10 {
		t.Fatalf("only %d steps found: the pattern does not find them", len(steps))
	}
	for step := range steps {
		for _, test := range []string{"TestUse/", "TestFaults/", "TestChanges/"} {
			there[test+step] = true
		}
	}
	named := 0
	for page, text := range documents(t) {
		for name := range found(testName, text) {
			named++
			if !there[name] {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named: the pattern does not find them", named)
	}
}

// TestDocumentedMetricsAreTheCodes compares the tables of docs/METRICS.md with the names in the product's source.
func TestDocumentedMetricsAreTheCodes(t *testing.T) {
	documented, code := found(metricRow, read(t, "docs/METRICS.md")), map[string]bool{}
	isProduct := func(path string) bool {
		return !strings.HasSuffix(path, "_test.go") && (strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "cmd/"))
	}
	for path, src := range goSources(t, isProduct) {
		maps.Copy(code, metricNames(path, src))
	}
	if len(code) < 20 {
		t.Fatalf("only %d metrics found in the code", len(code))
	}
	for _, name := range slices.Sorted(maps.Keys(code)) {
		if !documented[name] {
			t.Errorf("docs/METRICS.md lacks %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !code[name] {
			t.Errorf("docs/METRICS.md has %s, which no code registers", name)
		}
	}
}

// prefixed are the helpers that put the controller's prefix before the names that they are given.
var prefixed = map[string]*regexp.Regexp{
	"cmd/controller/metrics.go":   regexp.MustCompile(`\bdesc\("([a-z_]+)"`),
	"internal/control/metrics.go": regexp.MustCompile(`\bcounter\("([a-z_]+)"`),
}

func metricNames(path, src string) map[string]bool {
	names := found(metricText, src)
	if re := prefixed[path]; re != nil {
		for name := range found(re, src) {
			names["fairlead_controller_"+name] = true
		}
	}
	return names
}

func TestDocumentedTargetsExist(t *testing.T) {
	targets := found(makeTarget, read(t, "Makefile"))
	for page, text := range documents(t) {
		for name := range found(makeCall, text) {
			if !targets[name] {
				t.Errorf("%s says make %s, and the Makefile has no such target", page, name)
			}
		}
	}
	if called := found(makeCall, read(t, "README.md")); !called["demo"] || !called["test"] {
		t.Error("README.md does not say make demo and make test")
	}
}

// TestLinks: a relative link leads to a file, and its fragment to a heading.
func TestLinks(t *testing.T) {
	for page, text := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			to, fragment := match[1], match[2]
			if strings.Contains(to, "://") {
				continue
			}
			target := page
			if to != "" {
				target = filepath.Join(filepath.Dir(page), to)
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: link to %s: %v", page, to, err)
				continue
			}
			if fragment != "" && (info.IsDir() || !anchors(read(t, target))[fragment]) {
				t.Errorf("%s: %s has no heading #%s", page, target, fragment)
			}
		}
	}
}

// anchors are the fragments of a page's headings.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(match[1]))
		all[anchor] = true
	}
	return all
}

// TestNamedDirectoriesExist: the table of CONTRIBUTING.md is what there is, not what there will be.
func TestNamedDirectoriesExist(t *testing.T) {
	for dir := range namedDirectories(read(t, "CONTRIBUTING.md")) {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("CONTRIBUTING.md has a sentence for %s, which is no directory", dir)
		}
	}
}

// TestPagesAreWhole: nothing of a merge is left in them, and no two rows of a table are about the same thing.
func TestPagesAreWhole(t *testing.T) {
	for page, text := range documents(t) {
		rows := map[string]bool{}
		for line := range strings.Lines(text) {
			for _, marker := range []string{"<<<<<<<", "=======", ">>>>>>>"} {
				if strings.HasPrefix(line, marker) {
					t.Errorf("%s: a merge has left %q", page, line)
				}
			}
			cells := strings.Split(line, "|")
			if len(cells) < 3 {
				clear(rows)
				continue
			}
			if first := cells[1]; strings.HasPrefix(first, " `") && rows[first] {
				t.Errorf("%s: two rows for%s", page, first)
			} else {
				rows[first] = true
			}
		}
	}
}

func TestArchitectureFitsItsLength(t *testing.T) {
	if n := strings.Count(read(t, "docs/ARCHITECTURE.md"), "\n"); n > 400 {
		t.Errorf("docs/ARCHITECTURE.md has %d lines, at most 400", n)
	}
}
