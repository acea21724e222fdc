package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// programs are stand-ins for what the Makefile builds.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		if err := os.Mkdir(filepath.Join(bin, "linux_"+arch), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, s := range specs {
			for _, p := range s.programs {
				if err := os.WriteFile(filepath.Join(bin, "linux_"+arch, p), []byte(p+" for "+arch), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return bin
}

func builtIn(t *testing.T, bin string, more ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "images")
	args := append([]string{"build", "--bin", bin, "--version=v1.2.3", "--revision=abc", "--created=1700000000", "--also=devel", "--out", dir}, more...)
	if err := run(t.Context(), args, io.Discard); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestReproducible: equal programs give equal archives, whenever they were written.
func TestReproducible(t *testing.T) {
	bin := programs(t)
	first := builtIn(t, bin)
	err := filepath.Walk(bin, func(path string, _ os.FileInfo, _ error) error {
		return os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	second := builtIn(t, bin)
	for _, s := range specs {
		a, errA := os.ReadFile(filepath.Join(first, s.name+".tar"))
		b, errB := os.ReadFile(filepath.Join(second, s.name+".tar"))
		if errors.Join(errA, errB) != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs from one build to the next: %v", s.name, errors.Join(errA, errB))
		}
	}
}

func loaded(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	index, err := load(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestImages looks at everything in every image.
func TestImages(t *testing.T) {
	dir := builtIn(t, programs(t))
	for _, want := range []struct {
		name, user, entrypoint string
		files                  []string
	}{
		{"node", "0:0", "/nodeproxy", []string{"etc/ 755", "etc/passwd 644", "etc/group 644", "nodeproxy 755", "cni-plugin 755"}},
		{"controller", "65532:65532", "/controller", []string{"etc/ 755", "etc/passwd 644", "etc/group 644", "controller 755"}},
		{"example-vote", "65532:65532", "/front", []string{"etc/ 755", "etc/passwd 644", "etc/group 644", "front 755", "catalog 755", "ballot 755", "bot 755"}},
	} {
		index := loaded(t, filepath.Join(dir, want.name+".tar"))
		if err := validate.Index(index); err != nil {
			t.Errorf("%s: %v", want.name, err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var arches []string
		for _, d := range manifest.Manifests {
			arches = append(arches, d.Platform.String())
			image, err := index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.OS+"/"+config.Architecture != d.Platform.String() || config.Config.User != want.user ||
				strings.Join(config.Config.Entrypoint, " ") != want.entrypoint || !config.Created.Equal(time.Unix(1700000000, 0)) {
				t.Errorf("%s for %s: %+v", want.name, d.Platform, config)
			}
			if l := config.Config.Labels; l["org.opencontainers.image.version"] != "v1.2.3" || l["org.opencontainers.image.revision"] != "abc" {
				t.Errorf("%s: labels %v", want.name, l)
			}
			if diff := cmp.Diff(want.files, contents(t, image, config.Architecture)); diff != "" {
				t.Errorf("%s for %s:\n%s", want.name, d.Platform, diff)
			}
		}
		if got := strings.Join(arches, " "); got != "linux/amd64 linux/arm64" {
			t.Errorf("%s: for %s", want.name, got)
		}
	}
}

// contents lists the files of an image, and checks that each program is the one of its architecture.
func contents(t *testing.T, image v1.Image, arch string) (files []string) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		if mt, err := layer.MediaType(); err != nil || mt != types.OCILayer {
			t.Errorf("layer of type %s, %v", mt, err)
		}
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for entries := tar.NewReader(r); ; {
			header, err := entries.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, fmt.Sprintf("%s %o", header.Name, header.Mode))
			data, err := io.ReadAll(entries)
			if err != nil {
				t.Fatal(err)
			}
			if header.Mode == 0o755 && header.Typeflag == tar.TypeReg && string(data) != header.Name+" for "+arch {
				t.Errorf("%s holds %q", header.Name, data)
			}
			if header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(time.Unix(1700000000, 0)) {
				t.Errorf("%s: %+v", header.Name, header)
			}
		}
	}
	return files
}

// TestNames: an archive bears the names that the chart and the example's manifest ask for, as containerd spells them.
func TestNames(t *testing.T) {
	bin := programs(t)
	for _, test := range []struct {
		name string
		more []string
		want []string
	}{
		{"node", nil, []string{"docker.io/fairlead/node:v1.2.3", "docker.io/fairlead/node:devel"}},
		{"controller", []string{"--also="}, []string{"docker.io/fairlead/controller:v1.2.3"}},
		{"node", []string{"--repository=localhost:5000/mesh", "--arch=amd64"}, []string{"localhost:5000/mesh/node:v1.2.3", "localhost:5000/mesh/node:devel"}},
		{"example-vote", nil, []string{"docker.io/fairlead/example-vote:v1.2.3", "docker.io/fairlead/example-vote:devel", "docker.io/library/fairlead-example-vote:dev"}},
	} {
		dir := t.TempDir()
		index := loaded2(t, filepath.Join(builtIn(t, bin, test.more...), test.name+".tar"), dir)
		var got []string
		for _, d := range index.Manifests {
			got = append(got, d.Annotations["io.containerd.image.name"])
			if d.MediaType != types.OCIImageIndex || !strings.HasSuffix(d.Annotations["io.containerd.image.name"], ":"+d.Annotations["org.opencontainers.image.ref.name"]) {
				t.Errorf("%s: %+v", test.name, d)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s %v:\n%s", test.name, test.more, diff)
		}
	}
}

// loaded2 is the outer index of an archive.
func loaded2(t *testing.T, path, dir string) v1.IndexManifest {
	t.Helper()
	if _, err := load(path, dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		t.Fatal(err)
	}
	return index
}

// TestPush pushes to a registry on this machine, and compares what can be pulled from it.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	defer server.Close()
	home := strings.TrimPrefix(server.URL, "http://") + "/mesh"
	dir := builtIn(t, programs(t))
	archive := filepath.Join(t.TempDir(), "fairlead-1.2.3+x.tgz")
	if err := os.WriteFile(archive, chartArchive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"push", "--registry", home, "--version=v1.2.3", "--images", dir, "--chart", archive}, &out); err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		want, err := loaded(t, filepath.Join(dir, s.name+".tar")).Digest()
		if err != nil {
			t.Fatal(err)
		}
		index, err := remote.Index(mustTag(t, home+"/"+s.name+":v1.2.3"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := index.Digest(); err != nil || got != want {
			t.Errorf("%s: %s, want %s, %v", s.name, got, want, err)
		}
		if err := validate.Index(index); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if !strings.Contains(out.String(), home+"/"+s.name+":v1.2.3@"+want.String()) {
			t.Errorf("%s is not named in %s", s.name, &out)
		}
	}
	pulledChart(t, mustTag(t, home+"/charts/fairlead:1.2.3_x"), chartArchive(t))
	if want := "oci://" + home + "/charts/fairlead --version 1.2.3+x"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in %s", want, &out)
	}
}

// pulledChart checks what Helm looks for: config and layer of its types, metadata as JSON, the archive as it was.
func pulledChart(t *testing.T, tag name.Tag, archive []byte) {
	t.Helper()
	image, err := remote.Image(tag)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Config.MediaType != "application/vnd.cncf.helm.config.v1+json" || len(manifest.Layers) != 1 ||
		manifest.Layers[0].MediaType != "application/vnd.cncf.helm.chart.content.v1.tar+gzip" {
		t.Errorf("manifest: %+v", manifest)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var metadata map[string]string
	if err := json.Unmarshal(config, &metadata); err != nil || metadata["apiVersion"] != "v2" || metadata["appVersion"] != "v1.2.3" {
		t.Errorf("config %s, %v", config, err)
	}
	layer, err := image.LayerByDigest(manifest.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, archive) {
		t.Errorf("the archive has come back as another: %v", err)
	}
}

func mustTag(t *testing.T, s string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(s)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func chartArchive(t *testing.T) []byte {
	t.Helper()
	return archiveOf(t, "fairlead/Chart.yaml", "apiVersion: v2\nname: fairlead\nversion: 1.2.3+x\nappVersion: v1.2.3\n")
}

func archiveOf(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644})
	_, errWrite := io.WriteString(w, text)
	if err := errors.Join(err, errWrite, w.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRefusals(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.tgz")
	if err := os.WriteFile(broken, archiveOf(t, "other/values.yaml", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "build or push"},
		{[]string{"build"}, "--bin is required\n--version is required"},
		{[]string{"build", "--bin", t.TempDir(), "--version=v1", "--out", t.TempDir()}, "image node for amd64: open"},
		{[]string{"build", "--bin=x", "--version=v1", "--created=today"}, "--created"},
		{[]string{"push", "--version=v1"}, "--registry is required"},
		{[]string{"push", "--registry=127.0.0.1:1/A", "--version=v1", "--chart", broken}, "no Chart.yaml"},
		{[]string{"push", "--registry=127.0.0.1:1", "--version=v1", "--images", t.TempDir()}, "node.tar: no such file"},
		{[]string{"push", "now"}, `unexpected argument "now"`},
	} {
		if err := run(t.Context(), test.args, io.Discard); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.args, err, test.want)
		}
	}
}

// TestUnpackStaysInside: no archive writes outside of the directory that it is unpacked into.
func TestUnpackStaysInside(t *testing.T) {
	for _, header := range []tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg}, {Name: "/tmp/out", Typeflag: tar.TypeReg},
		{Name: "link", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}, {Name: "big", Typeflag: tar.TypeReg, Size: archiveMax + 1},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if err := unpack(&b, t.TempDir()); err == nil {
			t.Errorf("%s was unpacked", header.Name)
		}
	}
}

// TestVoteIsNamedAsInItsManifest: the example's manifest is applied as it is.
func TestVoteIsNamedAsInItsManifest(t *testing.T) {
	text, err := os.ReadFile("../../examples/vote/vote.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "image: fairlead-example-vote:dev\n") {
		t.Error("the manifest asks for another image than build names by default")
	}
}
