package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/cni"
)

const (
	podsFile    = "pods.json"
	podsVersion = 1
	maxPodsFile = 16 << 20
)

// podsOnDisk is the file of pods. It needs no sync to disk: when the machine goes down, its pods' namespaces go too.
type podsOnDisk struct {
	Version int       `json:"version"`
	Boot    string    `json:"boot"` // of the machine, since which the cookies count
	Pods    []*record `json:"pods"`
}

// boot is a number that the machine has until it is restarted; empty if it does not tell.
func (k *Keeper) boot() string {
	id, _ := os.ReadFile(filepath.Join(k.cfg.Proc, "sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(id))
}

func makeDirs(state, keys string) error {
	if err := os.MkdirAll(state, 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return fmt.Errorf("make keys directory: %w", err)
	}
	if err := os.Chmod(keys, 0o700); err != nil {
		return fmt.Errorf("close keys directory to others: %w", err)
	}
	return nil
}

// restore puts in force what the last keeper left on disk. Without it nobody knows which pods are captured, and what
// the kernel holds stays as it is until the controller has spoken.
// k.mu is held.
func (k *Keeper) restore() {
	var err error
	k.namespaces, err = cni.ReadNamespaces(k.cfg.StateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.setAside(filepath.Join(k.cfg.StateDir, "namespaces"), err)
	}
	path := filepath.Join(k.cfg.StateDir, podsFile)
	file, err := readPods(path)
	if err != nil {
		k.blind = true
		if !errors.Is(err, fs.ErrNotExist) {
			k.setAside(path, err)
		}
		return
	}
	if len(file.Pods) > 0 && file.Boot != k.boot() {
		// Cookies are given out anew: those of before may be others' by now.
		k.cfg.Log.Info("the machine was restarted: pods of before are forgotten", "pods", len(file.Pods))
		file.Pods, k.unsaved = nil, true
	}
	for _, r := range k.reopen(file.Pods) {
		k.records[r.Cookie] = r
	}
	k.unsaved = k.unsaved || len(k.records) != len(file.Pods)
	if err := k.apply(); err != nil {
		k.cfg.Log.Error("not wholly in force", "err", err)
	}
}

func readPods(path string) (*podsOnDisk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPodsFile+1))
	if err != nil {
		return nil, fmt.Errorf("read pods: %w", err)
	}
	return parsePods(text)
}

func parsePods(text []byte) (*podsOnDisk, error) {
	if len(text) > maxPodsFile {
		return nil, fmt.Errorf("pods: more than %d bytes", maxPodsFile)
	}
	var file podsOnDisk
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("parse pods: %w", err)
	}
	if file.Version != podsVersion {
		return nil, fmt.Errorf("pods: version %d, this keeper reads %d", file.Version, podsVersion)
	}
	cookies := map[uint64]bool{}
	for _, r := range file.Pods {
		if r == nil || r.Cookie == 0 || cookies[r.Cookie] || r.Enrolled && r.UID == "" {
			return nil, errors.New("pods: a pod without a namespace or uid of its own")
		}
		cookies[r.Cookie] = true
	}
	return &file, nil
}

// save writes the pods if they changed. A failure is logged, and ends nothing: the next change writes them again. k.mu is held.
func (k *Keeper) save() {
	if !k.unsaved || k.blind {
		return
	}
	file := podsOnDisk{Version: podsVersion, Boot: k.boot(), Pods: []*record{}}
	for _, r := range k.records {
		file.Pods = append(file.Pods, r)
	}
	text, err := json.Marshal(file)
	if err == nil {
		err = replaceFile(filepath.Join(k.cfg.StateDir, podsFile), text, 0o600, false)
	}
	if err != nil {
		k.cfg.Log.Error("pods not saved", "err", err)
		return
	}
	k.unsaved = false
}

// setAside keeps a damaged file for whoever wants to know, out of the way.
func (k *Keeper) setAside(path string, why error) {
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	err := os.Rename(path, aside)
	k.counters.add("damaged_files", 1)
	k.cfg.Log.Error("damaged file set aside", "path", path, "now", aside, "why", why, "err", err)
}

// replaceFile writes a file in one step: readers see the old content or the new. With sync it holds after a power failure too.
func replaceFile(path string, content []byte, mode fs.FileMode, sync bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", filepath.Base(path), err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("replace %s: %w", filepath.Base(path), errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(content)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
