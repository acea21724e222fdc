package build

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// keyOf names what a build of the source comes to.
func keyOf(source string) (string, error) {
	release, err := os.ReadFile("/etc/os-release") // Debian's packages are of a release, and fit its libraries only
	if err != nil {
		return "", fmt.Errorf("which Debian is this: %w", err)
	}
	return key(os.DirFS(source), recipe(), runtime.Version(), runtime.GOARCH, versionOf(string(release)))
}

// key hashes the files of the source, and each of the facts.
func key(source fs.FS, facts ...string) (string, error) {
	h := sha256.New()
	for _, fact := range facts {
		fmt.Fprintf(h, "%d %s\n", len(fact), fact)
	}
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !isSource(path) {
			return err
		}
		b, err := fs.ReadFile(source, path)
		fmt.Fprintf(h, "%s %d\n%s\n", path, len(b), b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the sources: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

func isSource(path string) bool {
	switch filepath.Base(path) {
	case "go.mod", "go.sum":
		return true
	}
	return strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
}

// versionOf takes the name and number of a release from os-release.
func versionOf(release string) string {
	var version []string
	for line := range strings.Lines(release) {
		if strings.HasPrefix(line, "ID=") || strings.HasPrefix(line, "VERSION_ID=") {
			version = append(version, strings.TrimSpace(line))
		}
	}
	return strings.Join(version, " ")
}
