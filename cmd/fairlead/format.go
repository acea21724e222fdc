package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// format is the value of -o: one of those that the command has.
type format struct {
	value *string
	known []string
}

func (f format) String() string {
	if f.value == nil {
		return ""
	}
	return *f.value
}

// Set refuses what the command has not.
func (f format) Set(v string) error {
	if !slices.Contains(f.known, v) {
		return fmt.Errorf("this command has %s", strings.Join(f.known, ", "))
	}
	*f.value = v
	return nil
}

// Type is what the help calls the value.
func (f format) Type() string { return strings.Join(f.known, "|") }

// formats gives a command the flag -o. The first one is what it prints without.
func (t *tool) formats(cmd *cobra.Command, known ...string) {
	cmd.Flags().VarP(format{&t.format, known}, "output", "o", "how the answer is written")
	cmd.Flags().Lookup("output").DefValue = known[0]
	if err := cmd.RegisterFlagCompletionFunc("output", fixed(known...)); err != nil {
		panic(err) // a flag that is not there: a mistake of ours
	}
}
