package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Remains names what there still is after Uninstall: the binary, and configurations that call it or that we made.
func Remains(c Config) (left []string, err error) {
	c = c.defaults()
	binary := filepath.Join(c.BinDir, c.Type)
	if _, err := os.Lstat(binary); err == nil {
		left = append(left, binary)
	}
	entries, err := os.ReadDir(c.ConfDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return left, fmt.Errorf("list configurations: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(c.ConfDir, e.Name())
		f, err := readConf(path)
		switch {
		case strings.HasSuffix(path, savedSuffix):
			left = append(left, path)
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoList): // gone, or nothing that a runtime reads
		case err != nil:
			return left, fmt.Errorf("read %s: %w", path, err)
		case bytes.Contains(f.content, []byte(`"`+c.Type+`"`)):
			left = append(left, path)
		}
	}
	return left, nil
}
