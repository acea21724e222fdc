package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Records is a directory with a file for each process that was started.
type Records string

// Put records a process under a name, in place of what had it before.
func (r Records) Put(name string, id ID) error {
	if err := os.MkdirAll(string(r), 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	next := filepath.Join(string(r), "."+name)
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return fmt.Errorf("record process %s: %w", name, err)
	}
	return os.Rename(next, filepath.Join(string(r), name))
}

// Get returns what was recorded; ok is false if there is nothing, or it has ended.
func (r Records) Get(name string) (id ID, ok bool) {
	b, err := os.ReadFile(filepath.Join(string(r), name))
	if err != nil || json.Unmarshal(b, &id) != nil {
		return ID{}, false
	}
	return id, id.Alive()
}

// All returns every record, of the living and the dead.
func (r Records) All() (map[string]ID, error) {
	entries, err := os.ReadDir(string(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the records of processes: %w", err)
	}
	all := make(map[string]ID)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue // a record that was not finished: its process never began
		}
		var id ID
		b, err := os.ReadFile(filepath.Join(string(r), entry.Name()))
		if err == nil {
			err = json.Unmarshal(b, &id)
		}
		if err != nil {
			return nil, fmt.Errorf("read the record of process %s: %w", entry.Name(), err)
		}
		all[entry.Name()] = id
	}
	return all, nil
}

// Delete forgets a process.
func (r Records) Delete(name string) error {
	err := os.Remove(filepath.Join(string(r), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
