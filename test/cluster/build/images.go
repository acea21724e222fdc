package build

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"fairlead.io/fairlead/test/cluster/config"
)

// images makes the images that every cluster has: one static binary each.
func (w *work) images(ctx context.Context) error {
	pause := filepath.Join(w.scratch, "pause")
	if err := w.goTool(ctx, w.Source, nil, "build", "-trimpath", "-buildvcs=false", "-ldflags="+strip, "-o", pause, "./cmd/pause"); err != nil {
		return err
	}
	for _, image := range []struct{ file, name, binary string }{
		{"pause.tar", config.PauseImage, pause},
		{"coredns.tar", config.DNSImage, filepath.Join(w.Dir, "coredns", "coredns")},
	} {
		if err := writeImage(filepath.Join(w.out, image.file), image.name, image.binary); err != nil {
			return fmt.Errorf("image %s: %w", image.name, err)
		}
	}
	return nil
}

// writeImage writes an image of one layer with one file, which it runs, as docker save writes it.
func writeImage(path, name, binary string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	base := filepath.Base(binary)
	layer, err := archive([]entry{{base, program, 0o755}})
	if err != nil {
		return err
	}
	type object = map[string]any
	settings, err := json.Marshal(object{
		"os": "linux", "architecture": runtime.GOARCH,
		"config": object{"Entrypoint": []string{"/" + base}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]object{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	image, err := archive([]entry{{"manifest.json", manifest, 0o644}, {"config.json", settings, 0o644}, {"layer.tar", layer, 0o644}})
	if err != nil {
		return err
	}
	return os.WriteFile(path, image, 0o644)
}

type entry struct {
	name    string
	content []byte
	mode    int64
}

func archive(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: e.mode, Size: int64(len(e.content))}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(e.content)); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}
