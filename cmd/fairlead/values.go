package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/spf13/cobra"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// valueFlags are the values of the chart, given as to helm.
type valueFlags struct {
	files                   []string
	set, setString, setFile []string
}

func (v *valueFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&v.files, "values", "f", nil, "file of values, or - for the standard input; may be repeated, the last one counts")
	f.StringArrayVar(&v.set, "set", nil, "value, as controller.replicas=3; may be repeated")
	f.StringArrayVar(&v.setString, "set-string", nil, "value that is text whatever it looks like")
	f.StringArrayVar(&v.setFile, "set-file", nil, "value that is a file's content, as identity.issuer.crt=issuer.crt")
}

// over lays the flags over values that are there, which stay as they are.
func (v *valueFlags) over(base map[string]any, in io.Reader) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range v.files {
		var text []byte
		var err error
		if name == "-" {
			text, err = io.ReadAll(in)
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		var more map[string]any
		if err := yaml.Unmarshal(text, &more); err != nil {
			return nil, fmt.Errorf("read values of %s: %w", name, err)
		}
		values = util.MergeTables(more, values)
	}
	values = util.MergeTables(values, copied(base))
	for _, s := range v.set {
		if err := strvals.ParseInto(s, values); err != nil {
			return nil, fmt.Errorf("--set %s: %w", s, err)
		}
	}
	for _, s := range v.setString {
		if err := strvals.ParseIntoString(s, values); err != nil {
			return nil, fmt.Errorf("--set-string %s: %w", s, err)
		}
	}
	read := func(name []rune) (any, error) {
		text, err := os.ReadFile(string(name))
		return string(text), err
	}
	for _, s := range v.setFile {
		if err := strvals.ParseIntoFile(s, values, read); err != nil {
			return nil, fmt.Errorf("--set-file %s: %w", s, err)
		}
	}
	return values, nil
}

// copied is deep, for values are merged in place.
func copied(values map[string]any) map[string]any {
	c := maps.Clone(values)
	for k, v := range c {
		if table, ok := v.(map[string]any); ok {
			c[k] = copied(table)
		}
	}
	if c == nil {
		c = map[string]any{}
	}
	return c
}

// table is a table of values, made if it is not there.
func tableOf(values map[string]any, names ...string) (map[string]any, error) {
	for _, name := range names {
		if values[name] == nil {
			values[name] = map[string]any{}
		}
		next, ok := values[name].(map[string]any)
		if !ok {
			return nil, errors.New("the value " + name + " is no table")
		}
		values = next
	}
	return values, nil
}
