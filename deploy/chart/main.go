// Command chart packages the Helm chart: chart -version v0.2.0 -out dist/chart prints the archive's path.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fairlead.io/fairlead/deploy"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	var p deploy.Package
	set := flag.NewFlagSet("chart", flag.ContinueOnError)
	set.StringVar(&p.AppVersion, "version", "", "version of the images, as git describes the tree (required)")
	set.StringVar(&p.Repository, "repository", "", "where the images are, if not where values.yaml says")
	out := set.String("out", ".", "directory for the archive")
	if err := set.Parse(args); err != nil {
		return err
	}
	if p.AppVersion == "" {
		return errors.New("--version is required")
	}
	version, err := p.Version()
	if err != nil {
		return err
	}
	data, err := p.Bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(*out, "fairlead-"+version+".tgz")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, path)
	return err
}
