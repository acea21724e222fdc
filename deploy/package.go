package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
)

// Package says what a packaged chart bears in place of what is in the tree.
type Package struct {
	// AppVersion is the version of the images, as git describes the tree: "v0.2.0", "v0.2.0-3-gabc1234", "abc1234".
	AppVersion string
	// Repository is where the images are, if not where values.yaml says.
	Repository string
}

// Version is the chart's: AppVersion where that is a semantic version, else one that comes before the tree's.
func (p Package) Version() (string, error) {
	c, err := Chart()
	if err != nil {
		return "", err
	}
	if v, err := semver.StrictNewVersion(strings.TrimPrefix(p.AppVersion, "v")); err == nil {
		return v.String(), nil
	}
	return c.Metadata.Version + "-g" + unfit.ReplaceAllString(p.AppVersion, "-"), nil
}

// unfit are what the last part of a semantic version cannot have.
var unfit = regexp.MustCompile(`[^0-9A-Za-z-]+`)

// Write writes the chart's archive, as `helm package` would. Equal charts give equal bytes: they bear no time.
func (p Package) Write(w io.Writer) error {
	version, err := p.Version()
	if err != nil {
		return err
	}
	files, err := Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := p.rewrite(f, version); err != nil {
			return err
		}
	}
	zipped := gzip.NewWriter(w)
	tarred := tar.NewWriter(zipped)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: "fairlead/" + f.Name, Size: int64(len(f.Data)), Mode: 0o644,
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if err := tarred.WriteHeader(header); err != nil {
			return fmt.Errorf("package %s: %w", f.Name, err)
		}
		if _, err := tarred.Write(f.Data); err != nil {
			return fmt.Errorf("package %s: %w", f.Name, err)
		}
	}
	if err := tarred.Close(); err != nil {
		return fmt.Errorf("package chart: %w", err)
	}
	return zipped.Close()
}

func (p Package) rewrite(f *archive.BufferedFile, version string) error {
	lines := map[string]string{}
	switch {
	case f.Name == "Chart.yaml":
		lines = map[string]string{"version: ": version, "appVersion: ": p.AppVersion}
	case f.Name == "values.yaml" && p.Repository != "":
		lines = map[string]string{"  repository: ": p.Repository}
	}
	for begin, value := range lines {
		line := regexp.MustCompile(`(?m)^` + begin + `.*$`)
		if n := len(line.FindAll(f.Data, -1)); n != 1 {
			return fmt.Errorf("package %s: %d lines begin with %q", f.Name, n, begin)
		}
		f.Data = line.ReplaceAllLiteral(f.Data, fmt.Appendf(nil, "%s%q", begin, value))
	}
	return nil
}

// Bytes is what Write writes.
func (p Package) Bytes() ([]byte, error) {
	var b bytes.Buffer
	err := p.Write(&b)
	return b.Bytes(), err
}
