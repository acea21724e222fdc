package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// push is where images and chart go: <registry>/<image>:<version> and <registry>/charts/fairlead:<chart's version>.
type push struct {
	registry string // host, or host/path
	insecure bool   // plain HTTP; a registry on this machine is always asked by HTTP
	version  string
	out      io.Writer
}

func (p push) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithJobs(2), remote.WithUserAgent("fairlead-images"),
	}
}

func (p push) tag(repository, tag string) (name.Tag, error) {
	options := []name.Option{name.StrictValidation}
	if p.insecure {
		options = append(options, name.Insecure)
	}
	return name.NewTag(p.registry+"/"+repository+":"+tag, options...)
}

// image pushes one archive of save's, for all its architectures. It is called as its file is.
func (p push) image(ctx context.Context, path string) error {
	tag, err := p.tag(strings.TrimSuffix(filepath.Base(path), ".tar"), p.version)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fairlead-push-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	index, err := load(path, dir)
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(tag, index, p.options(ctx)...); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "%s@%s\n", tag, digest)
	return nil
}

func (p push) chart(ctx context.Context, path string) error {
	archive, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := newChart(archive)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tag, err := p.tag("charts/"+c.name, c.tag())
	if err != nil {
		return err
	}
	image, err := c.image()
	if err != nil {
		return err
	}
	if err := remote.Write(tag, image, p.options(ctx)...); err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	fmt.Fprintf(p.out, "oci://%s/charts/%s --version %s\n", p.registry, c.name, c.version)
	return nil
}
