package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestEveryCommandIsDocumented holds docs/CLI.md to the commands, and each command to its own help.
func TestEveryCommandIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	root := (&tool{}).command()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if !strings.Contains(string(page), "`"+c.Name()+"`") {
			t.Errorf("docs/CLI.md does not name the command %s", c.Name())
		}
		if c.Short == "" || c.GroupID == "" && c.Name() != "completion" {
			t.Errorf("%s: short %q, group %q", c.Name(), c.Short, c.GroupID)
		}
		checkFlags(t, c)
	}
	checkFlags(t, root)
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(page), "--"+f.Name) && !strings.Contains(string(page), "/--"+f.Name) && f.Shorthand != "A" {
			t.Errorf("docs/CLI.md does not name the flag --%s", f.Name)
		}
	})
}

func checkFlags(t *testing.T, c *cobra.Command) {
	t.Helper()
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if len(f.Usage) < 10 {
			t.Errorf("%s --%s: %q", c.Name(), f.Name, f.Usage)
		}
	})
}

// TestFormatsAreDocumented holds the page's table of -o to the commands: each is in the row of its formats, in their order.
func TestFormatsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "| `-o` |")
	rows, _, _ := strings.Cut(section, "\n\n")
	documented := map[string]string{}
	for line := range strings.Lines(rows) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 4 {
			continue
		}
		for _, name := range strings.Split(cells[1], ",") {
			documented[strings.Trim(name, " `")] = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(cells[2]), "`", ""), ", ", "|")
		}
	}
	for _, c := range (&tool{}).command().Commands() {
		has := ""
		if f := c.Flags().Lookup("output"); f != nil {
			has = f.Value.Type()
			if help := c.UsageString(); !strings.Contains(help, "-o, --output "+has+" ") {
				t.Errorf("%s: the help does not say %s:\n%s", c.Name(), has, help)
			}
		}
		if documented[c.Name()] != has {
			t.Errorf("%s: has %q, docs/CLI.md says %q", c.Name(), has, documented[c.Name()])
		}
	}
}

// TestSamplesAreWhatTheToolSays holds the page's tables to what the scripts expect of the same commands, line by line.
func TestSamplesAreWhatTheToolSays(t *testing.T) {
	page, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	scripts, err := filepath.Glob("testdata/script/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	words := func(line string) string { return strings.Join(strings.Fields(line), " ") } // a table with fewer rows is narrower
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			said[words(line)] = true
		}
	}
	samples, inside := 0, false
	for line := range strings.Lines(string(page)) {
		text, indented := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(text, "$ fairlead ")
		switch {
		case !indented:
			inside = false
		case isCommand:
			name, _, _ := strings.Cut(command, " ")
			inside = slices.Contains([]string{"stat", "routes", "authz", "edges", "explain"}, name)
			if inside {
				samples++
			}
		case inside && !said[words(text)]:
			t.Errorf("docs/CLI.md shows a line that no script expects: %s", line)
		}
	}
	if samples != 5 {
		t.Errorf("%d samples were looked at", samples)
	}
}
