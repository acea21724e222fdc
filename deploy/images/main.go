// Command images makes Fairlead's OCI images out of programs that are built already, without a container engine and without a base image,
// and pushes them and the Helm chart to a registry.
//
//  1. Equal programs, version and time give equal bytes: of images, and of archives.
//  2. An archive is there whole or not at all.
//  3. Nothing is asked of a network but the registry that is pushed to, and that ends with the deadline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "build":
			return runBuild(args[1:], out)
		case "push":
			return runPush(ctx, args[1:], out)
		}
	}
	return errors.New("the first argument is build or push; each has --help")
}

func runBuild(args []string, out io.Writer) error {
	var b build
	set := flag.NewFlagSet("images build", flag.ContinueOnError)
	set.StringVar(&b.bin, "bin", "", "directory with the programs, as linux_amd64/controller (required)")
	set.StringVar(&b.version, "version", "", "version of the images, and their tag (required)")
	set.StringVar(&b.revision, "revision", "", "commit that they are of")
	created := set.String("created", "0", "time of everything in them, in seconds since the epoch")
	arches := set.String("arch", "amd64,arm64", "architectures, parted by commas")
	repository := set.String("repository", "fairlead", "the chart's image.repository")
	also := set.String("also", "", "another tag, which the archives bear too")
	vote := set.String("vote", "fairlead-example-vote:dev", "name of the example's image in its manifest")
	dir := set.String("out", ".", "directory for the archives")
	if err := parse(set, args, "bin", "version"); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(*created, 10, 64)
	if err != nil {
		return fmt.Errorf("--created: %w", err)
	}
	b.created = time.Unix(seconds, 0).UTC()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	for _, s := range specs {
		index, err := b.index(s, strings.Split(*arches, ","))
		if err != nil {
			return err
		}
		names := []string{whole(*repository + "/" + s.name + ":" + b.version)}
		if *also != "" && *also != b.version {
			names = append(names, whole(*repository+"/"+s.name+":"+*also))
		}
		if s.name == "example-vote" {
			names = append(names, whole(*vote))
		}
		path := filepath.Join(*dir, s.name+".tar")
		if err := save(path, index, names); err != nil {
			return err
		}
		digest, err := index.Digest()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, path, digest, strings.Join(names, " "))
	}
	return nil
}

// whole is an image's name with its registry, as containerd knows it: a short one is of docker.io, and there, if it has one
// part, of "library".
func whole(name string) string {
	first, _, parts := strings.Cut(name, "/")
	switch {
	case !parts:
		return "docker.io/library/" + name
	case strings.ContainsAny(first, ".:") || first == "localhost":
		return name
	}
	return "docker.io/" + name
}

func runPush(ctx context.Context, args []string, out io.Writer) error {
	p := push{out: out}
	set := flag.NewFlagSet("images push", flag.ContinueOnError)
	set.StringVar(&p.registry, "registry", "", "host[:port][/path] to push to (required)")
	set.StringVar(&p.version, "version", "", "tag of the images (required)")
	set.BoolVar(&p.insecure, "insecure", false, "speak plain HTTP; to a registry on this machine it is spoken anyway")
	images := set.String("images", "", "directory with the archives that build has written")
	chart := set.String("chart", "", "archive of the chart")
	timeout := set.Duration("timeout", 10*time.Minute, "how long all of it may take")
	if err := parse(set, args, "registry", "version"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if *images != "" {
		for _, s := range specs {
			if err := p.image(ctx, filepath.Join(*images, s.name+".tar")); err != nil {
				return err
			}
		}
	}
	if *chart != "" {
		return p.chart(ctx, *chart)
	}
	return nil
}

// parse parses flags, and names every required one that is empty.
func parse(set *flag.FlagSet, args []string, required ...string) error {
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	var errs []error
	for _, name := range required {
		if set.Lookup(name).Value.String() == "" {
			errs = append(errs, fmt.Errorf("--%s is required", name))
		}
	}
	return errors.Join(errs...)
}
