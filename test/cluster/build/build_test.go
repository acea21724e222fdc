package build

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestKey(t *testing.T) {
	base := func() fstest.MapFS {
		return fstest.MapFS{"go.mod": {Data: []byte("a")}, "go.sum": {Data: []byte("b")}, "cmd/x/main.go": {Data: []byte("c")}}
	}
	of := func(fs fstest.MapFS, facts ...string) string {
		k, err := key(fs, facts...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	want := of(base(), "1.2", "amd64")
	if len(want) != 16 || of(base(), "1.2", "amd64") != want {
		t.Fatalf("key %q is not that of the same another time", want)
	}
	same := base()
	same["cmd/x/main_test.go"] = &fstest.MapFile{Data: []byte("test")}
	same["notes"] = &fstest.MapFile{Data: []byte("d")}
	if of(same, "1.2", "amd64") != want {
		t.Error("files that nothing is built of change the key")
	}
	version, moved := base(), base()
	version["go.mod"] = &fstest.MapFile{Data: []byte("a2")}
	moved["cmd/y/main.go"] = moved["cmd/x/main.go"]
	delete(moved, "cmd/x/main.go")
	for name, other := range map[string]string{
		"go.mod": of(version, "1.2", "amd64"), "path": of(moved, "1.2", "amd64"),
		"fact": of(base(), "1.3", "amd64"), "boundary of facts": of(base(), "1.2a", "md64"),
	} {
		if other == want {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func TestRecipeHasAllVersions(t *testing.T) {
	for _, version := range []string{kubernetesVersion, containerdVersion, runcVersion, pluginsVersion, "libseccomp-dev", "no_btrfs"} {
		if !strings.Contains(recipe(), version) {
			t.Errorf("the key does not depend on %s", version)
		}
	}
}

// TestVersionIsTheModules holds the version that is told to the programs to that of their module.
func TestVersionIsTheModules(t *testing.T) {
	mod, err := os.ReadFile("../kubernetes/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(mod, []byte("\tk8s.io/kubernetes "+kubernetesVersion+"\n")) {
		t.Errorf("kubernetes/go.mod does not ask for Kubernetes %s", kubernetesVersion)
	}
}

func TestVersionOf(t *testing.T) {
	const release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\nBUG_URL=x\n"
	if got, want := versionOf(release), `VERSION_ID="12" ID=debian`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// withSteps has the builder do these instead of its own.
func withSteps(t *testing.T, list ...step) *Builder {
	old := steps
	steps = list
	t.Cleanup(func() { steps = old })
	return &Builder{Dir: filepath.Join(t.TempDir(), "key"), Out: io.Discard}
}

func write(name string, failure error) step {
	return step{name: name, run: func(w *work, _ context.Context) error {
		return errors.Join(os.WriteFile(filepath.Join(w.out, "program"), []byte(name), 0o755), failure)
	}}
}

func names(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestFailedStepLeavesNothing(t *testing.T) {
	broken := errors.New("compiler broke")
	b := withSteps(t, write("first", nil), write("second", broken))
	if err := b.Run(t.Context()); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "build second: ") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{"first"}, names(t, b.Dir)); diff != "" {
		t.Error(diff)
	}
	if b.Complete() {
		t.Error("half a build is taken for a whole one")
	}
	steps[0] = write("first", errors.New("built twice"))
	steps[1] = write("second", nil)
	if err := b.Run(t.Context()); err != nil || !b.Complete() {
		t.Errorf("it does not go on: %v", err)
	}
}

func TestInterruptedStepIsSweptAway(t *testing.T) {
	b := withSteps(t, write("first", nil))
	if err := os.MkdirAll(filepath.Join(b.Dir, unfinished+"1", "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"first"}, names(t, b.Dir)); diff != "" {
		t.Error(diff)
	}
}

func TestLockExcludes(t *testing.T) {
	dir := t.TempDir()
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	again, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestMergeUsr(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"lib/x86/a.so", "usr/lib/x86/b.so", "sbin/ip", "usr/bin/tool"} {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(file), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.so", filepath.Join(root, "lib/x86/a.so.1")); err != nil {
		t.Fatal(err)
	}
	if err := mergeUsr(root); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"usr"}, names(t, root)); diff != "" {
		t.Errorf("a real directory would hide Debian's link: %s", diff)
	}
	if diff := cmp.Diff([]string{"a.so", "a.so.1", "b.so"}, names(t, filepath.Join(root, "usr/lib/x86"))); diff != "" {
		t.Error(diff)
	}
}

func TestWriteImage(t *testing.T) {
	dir := t.TempDir()
	binary, image := filepath.Join(dir, "pause"), filepath.Join(dir, "pause.tar")
	if err := os.WriteFile(binary, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeImage(image, "localhost/x:y", binary); err != nil {
		t.Fatal(err)
	}
	files := untar(t, image)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || manifest[0].RepoTags[0] != "localhost/x:y" {
		t.Fatalf("manifest %+v", manifest)
	}
	var settings struct {
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config], &settings); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("sha256:%x", sha256.Sum256(files[manifest[0].Layers[0]]))
	if diff := cmp.Diff([]string{want}, settings.Rootfs.DiffIDs); diff != "" {
		t.Error(diff)
	}
}

func untar(t *testing.T, path string) map[string][]byte {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := make(map[string][]byte)
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
