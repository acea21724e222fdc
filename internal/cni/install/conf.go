package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"fairlead.io/fairlead/internal/cni"
)

// Names that we give. Runtimes read .conf, .conflist and .json only.
const (
	madeSuffix  = "-fairlead.conflist" // 10-x.conf -> 10-x.conf-fairlead.conflist: sorts where 10-x.conf did
	savedSuffix = ".fairlead-saved"    // 10-x.conf -> 10-x.conf.fairlead-saved: the original
)

const maxConf = 1 << 20

// errLeftAlone marks what is reported and not touched.
var errLeftAlone = errors.New("configuration left alone")

// conf is a network configuration on disk.
type conf struct {
	path    string
	content []byte
	mode    fs.FileMode
	isList  bool
}

// firstConf finds the configuration that runtimes use: the lexically first that is valid. nil means there is none yet.
func (c Config) firstConf() (*conf, []error, error) {
	files, err := confFiles(c.ConfDir)
	if err != nil {
		return nil, nil, err
	}
	var problems []error
	for _, path := range files {
		f, err := readConf(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone in the meantime; its directory tells of that too
		}
		if err == nil {
			err = f.validate()
		}
		if err == nil {
			return f, problems, nil
		}
		problems = append(problems, fmt.Errorf("%w: %s: %w", errLeftAlone, path, err))
	}
	return nil, problems, nil
}

func confFiles(dir string) ([]string, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, fmt.Errorf("list configurations: %w", err)
	}
	slices.Sort(files)
	return files, nil
}

func readConf(path string) (*conf, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", errNoList)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxConf {
		return nil, fmt.Errorf("%w: larger than %d bytes", errNoList, maxConf)
	}
	return &conf{path: path, content: content, mode: info.Mode().Perm(), isList: filepath.Ext(path) == ".conflist"}, nil
}

// validate reads the file as libcni does.
func (f *conf) validate() error {
	if f.isList {
		return checkList(f.content)
	}
	single, err := libcni.NetworkPluginConfFromBytes(f.content)
	if err != nil {
		return err
	}
	if single.Network.Type == "" {
		return errors.New("no type")
	}
	if single.Network.Name == "" {
		return errors.New("no name")
	}
	return nil
}

func checkList(content []byte) error {
	list, err := libcni.NetworkConfFromBytes(content)
	if err != nil {
		return err
	}
	if len(list.Plugins) == 0 {
		return errors.New("no plugins")
	}
	return nil
}

// join brings our entry into f, and says which file has it now.
func (c Config) join(f *conf) (path string, changed bool, err error) {
	list, target := f.content, f.path
	if !f.isList {
		target = f.path + madeSuffix
		if list, err = listFromSingle(f.content); err != nil {
			return "", false, fmt.Errorf("%w: %s: %w", errLeftAlone, f.path, err)
		}
	}
	want, err := addEntry(list, c.Type, c.Entry)
	if err == nil {
		err = checkVersion(want)
	}
	if err != nil {
		return "", false, fmt.Errorf("%w: %s: %w", errLeftAlone, f.path, err)
	}
	if f.isList && bytes.Equal(want, f.content) {
		return target, false, nil
	}
	if err := replace(target, bytes.NewReader(want), f.mode); err != nil {
		return "", false, err
	}
	if !f.isList {
		// Both are there for a moment, and the runtime still takes the original, which sorts first.
		if err := os.Rename(f.path, f.path+savedSuffix); err != nil {
			return "", false, err
		}
	}
	return target, true, nil
}

// checkVersion makes sure that the runtime can call our plugin with this list: a plugin that refuses the version would
// stop every pod of the node.
func checkVersion(content []byte) error {
	list, err := libcni.NetworkConfFromBytes(content)
	if err != nil {
		return fmt.Errorf("with our entry: %w", err)
	}
	if !slices.Contains(cni.SupportedVersions(), list.CNIVersion) {
		return fmt.Errorf("cniVersion %q; the plugin speaks %s", list.CNIVersion, strings.Join(cni.SupportedVersions(), ", "))
	}
	return nil
}

// leaveAll takes our entry out of every configuration, and puts the originals back.
func (c Config) leaveAll() error {
	files, err := confFiles(c.ConfDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range files {
		if strings.HasSuffix(path, madeSuffix) {
			errs = append(errs, c.restore(path))
		} else if filepath.Ext(path) == ".conflist" {
			errs = append(errs, c.leave(path))
		}
	}
	// What a crash left between restoring an original and removing what was made of it.
	saved, err := filepath.Glob(filepath.Join(c.ConfDir, "*"+savedSuffix))
	errs = append(errs, err)
	for _, path := range saved {
		errs = append(errs, c.restore(strings.TrimSuffix(path, savedSuffix)+madeSuffix))
	}
	return errors.Join(errs...)
}

// restore puts back the original of a list that we made. Where its owner wrote a new one, that one is the original.
func (c Config) restore(made string) error {
	original := strings.TrimSuffix(made, madeSuffix)
	var err error
	if _, statErr := os.Lstat(original); errors.Is(statErr, fs.ErrNotExist) {
		err = os.Rename(original+savedSuffix, original)
	} else {
		err = removeIfThere(original + savedSuffix)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c.leave(made) // without an original the list that we made is the node's network: it stays, without us
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", original, err)
	}
	return removeIfThere(made)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c Config) leave(path string) error {
	f, err := readConf(path)
	var want []byte
	if err == nil {
		want, err = removeEntry(f.content, c.Type)
	}
	if errors.Is(err, errNoList) || errors.Is(err, fs.ErrNotExist) {
		return nil // not understood, so never joined; or gone by itself
	}
	if err != nil || bytes.Equal(want, f.content) {
		return err
	}
	return replace(path, bytes.NewReader(want), f.mode)
}
