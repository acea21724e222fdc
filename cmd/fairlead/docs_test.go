package main

import (
	"os"
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
