package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spec is one of our images.
type spec struct {
	name, title string
	programs    []string // in the image's root; the first one is the entrypoint
	user        string   // the pod may say another
}

// specs are all images. Those of the chart are <repository>/<name>.
var specs = []spec{
	{"node", "Fairlead's keeper, proxy and CNI plugin, for every node", []string{"nodeproxy", "cni-plugin"}, "0:0"},
	{"controller", "Fairlead's control plane", []string{"controller"}, unprivileged},
	{"example-vote", "An application to try a mesh with", []string{"front", "catalog", "ballot", "bot"}, unprivileged},
}

const unprivileged = "65532:65532"

// build is what all images of one run have in common.
type build struct {
	bin               string // <bin>/linux_<arch>/<program>
	version, revision string
	created           time.Time // of everything, so that equal programs give equal images
}

// index is the image of one spec for each architecture.
func (b build) index(s spec, arches []string) (v1.ImageIndex, error) {
	all := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range arches {
		image, err := b.image(s, arch)
		if err != nil {
			return nil, fmt.Errorf("image %s for %s: %w", s.name, arch, err)
		}
		all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	annotated, ok := mutate.Annotations(all, b.labels(s)).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotate index %s", s.name)
	}
	return annotated, nil
}

func (b build) labels(s spec) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "fairlead-" + s.name,
		"org.opencontainers.image.description": s.title,
		"org.opencontainers.image.version":     b.version,
		"org.opencontainers.image.revision":    b.revision,
		"org.opencontainers.image.created":     b.created.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

// image has no base: the programs are static, and need of a system nothing but the names of the two users.
func (b build) image(s spec, arch string) (v1.Image, error) {
	users, err := b.layer([]file{
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{"etc/group", 0o644, []byte("root:x:0:\nnonroot:x:65532:\n")},
	})
	if err != nil {
		return nil, err
	}
	var files []file
	for _, program := range s.programs {
		data, err := os.ReadFile(filepath.Join(b.bin, "linux_"+arch, program))
		if err != nil {
			return nil, err
		}
		files = append(files, file{program, 0o755, data})
	}
	programs, err := b.layer(files)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: users, History: b.history("users")}, mutate.Addendum{Layer: programs, History: b.history("programs")})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: b.created}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + s.programs[0]}, Env: []string{"PATH=/"}, User: s.user, WorkingDir: "/", Labels: b.labels(s),
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, b.labels(s)).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotate image %s", s.name)
	}
	return annotated, nil
}

func (b build) history(what string) v1.History {
	return v1.History{Created: v1.Time{Time: b.created}, CreatedBy: "deploy/images: " + what}
}

type file struct {
	name string
	mode int64
	data []byte
}

// layer holds files of root's, all of one time, and the directories that they are in.
func (b build) layer(files []file) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	made := map[string]bool{".": true}
	for _, f := range files {
		if dir := filepath.Dir(f.name); !made[dir] {
			made[dir] = true
			if err := b.add(w, tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil); err != nil {
				return nil, err
			}
		}
		if err := b.add(w, tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data))}, f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

func (b build) add(w *tar.Writer, header tar.Header, data []byte) error {
	header.ModTime, header.Format = b.created, tar.FormatUSTAR
	if err := w.WriteHeader(&header); err != nil {
		return fmt.Errorf("layer: %s: %w", header.Name, err)
	}
	_, err := w.Write(data)
	return err
}
