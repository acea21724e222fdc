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
		if !strings.Contains(string(page), "--"+f.Name) && !strings.Contains(string(page), "/--"+f.Name) && f.Shorthand != "A" && f.Shorthand != "o" {
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
