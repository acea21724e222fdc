// Package install puts the CNI plugin's binary on a node and its entry into the network configuration that the node's
// runtime uses, keeps both there, and takes both away again.
//
// Promises:
//  1. The runtime finds a whole, valid configuration at every moment: files are written aside, under a name that no runtime
//     reads, checked as libcni reads them, and renamed.
//  2. Our entry is in the lexically first valid configuration, last in its chain, once. What others wrote there stays as
//     they wrote it, byte for byte inside each plugin's entry.
//  3. A configuration that is not understood, or whose version our plugin does not speak, is reported and left alone.
//  4. The binary comes before the entry and goes after it, so that no runtime calls a plugin that is not there.
//  5. Each step may be repeated, and a crash between two of them is repaired by the next Install or Uninstall.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// DefaultType is the binary's name in BinDir and the type of its entry.
const DefaultType = "fairlead-cni"

// Config says where things are, as this process sees them.
type Config struct {
	BinDir  string // the runtime's directory of plugins
	ConfDir string // the runtime's directory of network configurations
	Plugin  string // the binary to install
	Type    string // default DefaultType
	// Entry is our entry without its type: the fields of cni.Conf that are to differ from their defaults.
	Entry map[string]any
	Poll  time.Duration // how often Run looks without being told; default 10 s
	Log   *slog.Logger  // of Run; default discard
	// Told, if set, is called by Run each time that it has looked.
	Told func(State, error)
}

func (c Config) defaults() Config {
	if c.Type == "" {
		c.Type = DefaultType
	}
	if c.Poll == 0 {
		c.Poll = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// State is what Install found and did.
type State struct {
	Conf     string  // the file with our entry; "" while the node has no configuration to join
	Changed  bool    // something had to be written
	Problems []error // configurations that were left alone
}

// Install does once what Run keeps doing. That there is no configuration yet is no error.
func Install(c Config) (State, error) {
	c = c.defaults()
	var s State
	changed, err := c.installBinary()
	if err != nil {
		return s, fmt.Errorf("install binary: %w", err)
	}
	first, problems, err := c.firstConf()
	s.Changed, s.Problems = changed, problems
	if err != nil || first == nil {
		return s, err
	}
	s.Conf, changed, err = c.join(first)
	s.Changed = s.Changed || changed
	if errors.Is(err, errLeftAlone) {
		s.Conf, s.Problems = "", append(s.Problems, err)
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("install configuration: %w", err)
	}
	return s, nil
}

// Uninstall takes the entry out of every configuration, puts originals back in their places, and removes the binary last.
// When a configuration cannot be cleaned the binary stays: the runtime may still call it.
func Uninstall(c Config) error {
	c = c.defaults()
	if err := c.leaveAll(); err != nil {
		return fmt.Errorf("remove configuration: %w", err)
	}
	err := os.Remove(filepath.Join(c.BinDir, c.Type))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove binary: %w", err)
	}
	return nil
}

// installBinary replaces the binary in one step, also while it runs, unless it is the same.
func (c Config) installBinary() (changed bool, err error) {
	target := filepath.Join(c.BinDir, c.Type)
	want, err := os.Open(c.Plugin)
	if err != nil {
		return false, err
	}
	defer want.Close()
	if same, err := isSame(want, target); same || err != nil {
		return false, err
	}
	if err := os.MkdirAll(c.BinDir, 0o755); err != nil {
		return false, err
	}
	return true, replace(target, want, 0o755)
}

// isSame reports whether the file at path is an executable with f's content. It leaves f at its beginning.
func isSame(f *os.File, path string) (bool, error) {
	have, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer have.Close()
	info, err := have.Stat()
	if err != nil {
		return false, err
	}
	same, err := sameContent(f, have)
	if err != nil {
		return false, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return same && info.Mode().Perm()&0o111 == 0o111, err
}

func sameContent(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}

// replace writes content aside and renames it to path. The name aside has an ending that no runtime reads.
func replace(path string, content io.Reader, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.fairlead-tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
