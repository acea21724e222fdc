// Image writes a container image as a tar that container runtimes import, from files of this machine. A program that is
// linked dynamically brings its libraries with -libraries.
//
//	image -o OUT.tar -name docker.io/library/NAME:TAG [-libraries] [-entrypoint /PLACE] FILE=/PLACE...
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	out := f.String("o", "", "the tar to write")
	name := f.String("name", "", "the image's whole name, with registry and tag")
	entrypoint := f.String("entrypoint", "", "the program that a container runs which names none")
	libraries := f.Bool("libraries", false, "bring the libraries of all files along")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *out == "" || *name == "" || f.NArg() == 0 {
		return errors.New("-o, -name and at least one FILE=/PLACE are needed")
	}
	files := map[string]string{} // by place
	for _, a := range f.Args() {
		file, place, ok := strings.Cut(a, "=")
		if !ok || !strings.HasPrefix(place, "/") {
			return fmt.Errorf("%q is not FILE=/PLACE", a)
		}
		files[place] = file
		if !*libraries {
			continue
		}
		more, err := librariesOf(file)
		if err != nil {
			return err
		}
		for _, l := range more {
			files[l] = l
		}
	}
	layer, err := layerOf(files)
	if err != nil {
		return err
	}
	return write(*out, *name, *entrypoint, layer)
}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// librariesOf asks the dynamic linker.
func librariesOf(file string) (out []string, err error) {
	text, err := exec.Command("ldd", file).CombinedOutput()
	if bytes.Contains(text, []byte("not a dynamic executable")) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", file, err, text)
	}
	for _, m := range library.FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	return out, nil
}

// layerOf is a tar of the files, with the directories that they lie in and those that programs expect.
func layerOf(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dirs := map[string]bool{"/tmp": true, "/var/run": true, "/var/log/nginx": true, "/var/lib/nginx": true}
	for place := range files {
		dirs[filepath.Dir(place)] = true
	}
	for d := range dirs {
		for up := filepath.Dir(d); up != "/"; up = filepath.Dir(up) {
			dirs[up] = true
		}
	}
	delete(dirs, "/")
	for _, d := range sorted(dirs) {
		mode := int64(0o755)
		if d == "/tmp" {
			mode = 0o1777
		}
		if err := w.WriteHeader(&tar.Header{Name: d[1:] + "/", Typeflag: tar.TypeDir, Mode: mode}); err != nil {
			return nil, err
		}
	}
	for _, place := range sorted(files) {
		text, err := os.ReadFile(files[place])
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: place[1:], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// write writes the form of `docker save`.
func write(path, name, entrypoint string, layer []byte) error {
	settings := map[string]any{"Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/"}}
	if entrypoint != "" {
		settings["Entrypoint"] = []string{entrypoint}
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": settings,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		text []byte
	}{{configName, config}, {"layer.tar", layer}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.text))}); err != nil {
			return err
		}
		if _, err := w.Write(f.text); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
