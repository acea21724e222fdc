package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// archiveMax bounds what is unpacked of an archive, against one that is not ours.
const archiveMax = 4 << 30

// save writes an OCI layout as one tar archive, with an entry for each name. That is what "ctr images import", "kind load image-archive",
// "docker load" (from version 25) and "podman load" take; containerd goes by the whole name in the annotation of its own.
func save(path string, index v1.ImageIndex, names []string) error {
	dir, err := os.MkdirTemp("", "fairlead-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	for _, name := range names {
		_, tag, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
		if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": tag,
		})); err != nil {
			return fmt.Errorf("write layout: %w", err)
		}
	}
	if err := pack(path+".new", dir); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path+".new"))
	}
	return os.Rename(path+".new", path)
}

// pack writes a directory as a tar archive, in order of names and with no time of its own.
func pack(path, dir string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		inner, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: inner, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if entry.IsDir() {
			header.Typeflag, header.Name, header.Mode, header.Size = tar.TypeDir, inner+"/", 0o755, 0
			return w.WriteHeader(header)
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(w, in)
		return err
	})
	return errors.Join(err, w.Close(), out.Close())
}

// load unpacks an archive that save has written into a directory, and returns the image in it.
func load(path, dir string) (v1.ImageIndex, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := unpack(in, dir); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(manifest.Manifests) == 0 {
		return nil, fmt.Errorf("read %s: no image in it", path)
	}
	return outer.ImageIndex(manifest.Manifests[0].Digest)
}

func unpack(in io.Reader, dir string) error {
	root, err := os.OpenRoot(dir) // no name in the archive leads out of it
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(archiveMax)
	for r := tar.NewReader(in); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if left -= header.Size; left < 0 {
			return fmt.Errorf("more than %d bytes", archiveMax)
		}
		switch header.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(filepath.Clean(header.Name), 0o755)
		case tar.TypeReg:
			err = unpackFile(root, header, r)
		default:
			err = fmt.Errorf("%s: neither a file nor a directory", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, header *tar.Header, r io.Reader) error {
	out, err := root.OpenFile(header.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, r, header.Size)
	return errors.Join(err, out.Close())
}
