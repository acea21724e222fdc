package cni

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The file that tells the plugin what the keeper last knew of the cluster's namespaces:
//
//	fairlead-namespaces 1
//	default not-enrolled
//	shop enrolled
//	end 2
const (
	namespacesFile = "namespaces"
	namespacesHead = "fairlead-namespaces 1"
	enrolledWord   = "enrolled"
	notWord        = "not-enrolled"

	maxNamespaces     = 100_000
	maxNamespacesFile = 8 << 20
)

// ErrNamespaces is wrapped by errors about a file of namespaces that is damaged.
var ErrNamespaces = errors.New("damaged list of namespaces")

// WriteNamespaces replaces the list in the state directory in one step: name -> enrolled.
// It holds after a power failure: the new content is on disk before it bears the name.
func WriteNamespaces(stateDir string, enrolled map[string]bool) error {
	if len(enrolled) > maxNamespaces {
		return fmt.Errorf("write namespaces: %d of them, at most %d", len(enrolled), maxNamespaces)
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, namespacesHead)
	for _, name := range slices.Sorted(maps.Keys(enrolled)) {
		if !isName(name, 63) {
			return fmt.Errorf("write namespaces: %.70q is no namespace's name", name)
		}
		word := notWord
		if enrolled[name] {
			word = enrolledWord
		}
		fmt.Fprintln(&b, name, word)
	}
	fmt.Fprintln(&b, "end", len(enrolled))
	if err := writeFile(filepath.Join(stateDir, namespacesFile), b.Bytes()); err != nil {
		return fmt.Errorf("write namespaces: %w", err)
	}
	return nil
}

// ReadNamespaces reads the list. A damaged one gives an error that wraps ErrNamespaces, and no list at all: half a list
// would pass for a whole one.
func ReadNamespaces(stateDir string) (map[string]bool, error) {
	f, err := os.Open(filepath.Join(stateDir, namespacesFile))
	if err != nil {
		return nil, fmt.Errorf("read namespaces: %w", err)
	}
	defer f.Close()
	list, err := parseNamespaces(f)
	if err != nil {
		return nil, fmt.Errorf("read namespaces: %s: %w", f.Name(), err)
	}
	return list, nil
}

func parseNamespaces(r io.Reader) (map[string]bool, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxNamespacesFile))
	lines.Buffer(make([]byte, 0, 4096), 4096)
	if !lines.Scan() || lines.Text() != namespacesHead {
		return nil, fmt.Errorf("%w: does not begin with %q", ErrNamespaces, namespacesHead)
	}
	list := make(map[string]bool)
	for n := 2; lines.Scan(); n++ {
		name, word, _ := strings.Cut(lines.Text(), " ")
		if count, err := strconv.Atoi(word); name == "end" && err == nil {
			if count != len(list) || lines.Scan() {
				return nil, fmt.Errorf("%w: line %d ends a list of %d, not of %d", ErrNamespaces, n, count, len(list))
			}
			return list, nil
		}
		if _, twice := list[name]; twice || !isName(name, 63) || word != enrolledWord && word != notWord {
			return nil, fmt.Errorf("%w: line %d: %.90q", ErrNamespaces, n, lines.Text())
		}
		if list[name] = word == enrolledWord; len(list) > maxNamespaces {
			return nil, fmt.Errorf("%w: more than %d", ErrNamespaces, maxNamespaces)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNamespaces, err)
	}
	return nil, fmt.Errorf("%w: cut off", ErrNamespaces)
}

func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
