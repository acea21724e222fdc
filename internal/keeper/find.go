package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/mesh"
)

// search looks for the namespaces of pods that are to be captured and run, but whose ADD this keeper did not see, as when
// it was installed after them. A process tells its pod by its cgroup, which bears the pod's UID.
func (k *Keeper) search() (found bool) {
	missing := k.missing()
	if len(missing) == 0 {
		return false
	}
	host, ok := inodeAt(filepath.Join(k.cfg.Proc, "1/ns/net"))
	if !ok {
		return false
	}
	for _, pid := range k.processes() {
		dir := filepath.Join(k.cfg.Proc, pid)
		cgroups := cgroupsOf(dir)
		for uid, e := range missing {
			if !areOf(cgroups, uid) {
				continue
			}
			at, ok := inodeAt(filepath.Join(dir, "ns/net"))
			if !ok || at == host {
				continue
			}
			if err := k.discover(e, k.boundAt(at, filepath.Join(dir, "ns/net"))); err != nil {
				k.cfg.Log.Warn("running pod not captured", "pod", e.Name, "err", err)
				continue
			}
			delete(missing, uid)
			found = true
		}
		if len(missing) == 0 {
			break
		}
	}
	return found
}

// missing are the pods to be captured of which nothing is known.
func (k *Keeper) missing() map[string]mesh.Enrolment {
	k.mu.Lock()
	defer k.mu.Unlock()
	missing := map[string]mesh.Enrolment{}
	if k.assignment == nil {
		return missing
	}
	for _, e := range k.assignment.Pods {
		if e.Enrolled {
			missing[e.UID] = e
		}
	}
	for _, r := range k.records {
		if e := enrolmentOf(&control.Assignment{Pods: k.assignment.Pods}, r); e != nil {
			delete(missing, e.UID)
		}
	}
	return missing
}

// discover records a running pod.
func (k *Keeper) discover(e mesh.Enrolment, path string) error {
	ns, err := k.cfg.Redirect.OpenNetNS(path)
	if err != nil {
		return err
	}
	r := &record{NetNSPath: path, UID: e.UID, Name: e.Name}
	r.Addrs, err = ns.Addrs()
	if err == nil && len(r.Addrs) == 0 {
		err = errors.New("its network namespace has no address yet")
	}
	if err == nil {
		err = r.hold(ns)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && (k.records == nil || k.records[r.Cookie] != nil) {
		err = errors.New("its network namespace is known as another pod's")
	}
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	r.take(&e)
	k.records[r.Cookie] = r
	k.unsaved = true
	k.cfg.Log.Info("running pod found", "pod", e.Name, "uid", e.UID, "netns", path, "addrs", r.Addrs)
	return nil
}

// cgroupsOf is what procfs says of a process's cgroups, of both versions; empty if it has ended.
func cgroupsOf(procDir string) string {
	f, err := os.Open(filepath.Join(procDir, "cgroup"))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	return string(text)
}

// areOf tells whether these are cgroups of the pod. The systemd driver writes a UID with underscores.
func areOf(cgroups, uid string) bool {
	return uid != "" && (strings.Contains(cgroups, "pod"+uid) || strings.Contains(cgroups, "pod"+strings.ReplaceAll(uid, "-", "_")))
}

// boundAt is the runtime's path of a namespace, or otherwise, which lives as long as a process.
func (k *Keeper) boundAt(ns inode, otherwise string) string {
	entries, err := os.ReadDir(k.cfg.NetNSDir)
	if err != nil {
		return otherwise
	}
	for _, e := range entries {
		path := filepath.Join(k.cfg.NetNSDir, e.Name())
		if at, ok := inodeAt(path); ok && at == ns {
			return path
		}
	}
	return otherwise
}

// seenAt is where this process sees a namespace that the runtime told by its own path, such as /var/run/netns/x.
func (k *Keeper) seenAt(ns inode, told string) string {
	here := filepath.Join(k.cfg.NetNSDir, filepath.Base(told))
	if at, ok := inodeAt(here); ok && at == ns {
		return here
	}
	return told
}

func (k *Keeper) processes() []string {
	entries, err := os.ReadDir(k.cfg.Proc)
	if err != nil {
		k.cfg.Log.Warn("processes not listed", "err", err)
		return nil
	}
	var pids []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

// inUse are the namespaces that have a process.
func (k *Keeper) inUse() map[inode]string {
	used := map[inode]string{}
	for _, pid := range k.processes() {
		path := filepath.Join(k.cfg.Proc, pid, "ns/net")
		if at, ok := inodeAt(path); ok && used[at] == "" {
			used[at] = path
		}
	}
	return used
}

// forgetGone drops the pods whose namespace has neither its path nor a process any more: DEL never came.
func (k *Keeper) forgetGone() {
	k.mu.Lock()
	var suspects []*record
	for _, r := range k.records {
		if at, ok := inodeAt(r.NetNSPath); !ok || at != r.inode {
			suspects = append(suspects, r)
		}
	}
	k.mu.Unlock()
	if len(suspects) == 0 {
		return
	}
	used := k.inUse()
	if len(used) == 0 {
		return // not even our own: then nothing can be told
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range suspects {
		if used[r.inode] == "" {
			k.cfg.Log.Info("pod's network namespace has gone", "pod", r.Name, "uid", r.UID)
			k.drop(r)
		}
	}
	if err := k.apply(); err != nil && !errors.Is(err, errSuperseded) {
		k.cfg.Log.Warn("not wholly in force", "err", err)
	}
}

// reopen opens the namespaces of records from disk: where they were, or else by a process in them. Those that are found
// nowhere have gone.
func (k *Keeper) reopen(records []*record) (open []*record) {
	lost := map[uint64]*record{}
	for _, r := range records {
		if err := k.openRecord(r, r.NetNSPath); err != nil {
			lost[r.Cookie] = r
			continue
		}
		open = append(open, r)
	}
	if len(lost) == 0 {
		return open
	}
	for _, path := range k.inUse() {
		ns, err := k.cfg.Redirect.OpenNetNS(path)
		if err != nil {
			continue
		}
		r := lost[ns.Cookie()]
		if r == nil || r.hold(ns) != nil {
			ns.Close()
			continue
		}
		delete(lost, r.Cookie)
		r.NetNSPath = path
		open = append(open, r)
	}
	for _, r := range lost {
		k.cfg.Log.Info("pod's network namespace has gone", "pod", r.Name, "uid", r.UID)
	}
	return open
}

func (k *Keeper) openRecord(r *record, path string) error {
	ns, err := k.cfg.Redirect.OpenNetNS(path)
	if err != nil {
		return err
	}
	if ns.Cookie() != r.Cookie {
		return errors.Join(fmt.Errorf("%s is another namespace now", path), ns.Close())
	}
	if err := r.hold(ns); err != nil {
		return errors.Join(err, ns.Close())
	}
	return nil
}
