package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// objects are an instance's maps, which all its pods share, and the programs that every pod gets an instance of.
type objects struct {
	maps     redirectMaps
	verdicts []string                // by number
	kubelet  uint64                  // id of the kubelet's cgroup when the connect programs were loaded; 0 without
	nodes    map[redirectFlAddr]bool // the node's addresses as they were set last
	nodesAt  time.Time
}

func (o *objects) close() error { return o.maps.Close() }

// openObjects reopens the instance, or makes it in a directory aside whose renaming is the commit.
func openObjects(cfg Config) (*objects, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memlock limit: %w", err)
	}
	dir, tmp := instanceDir(cfg), temporaryDir(cfg)
	if err := os.RemoveAll(tmp); err != nil { // of a process that ended before its commit
		return nil, fmt.Errorf("remove unfinished instance: %w", err)
	}
	if _, err := os.Stat(dir); err == nil {
		return loadObjects(cfg, dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find instance: %w", err)
	}

	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, fmt.Errorf("make instance: %w", err)
	}
	o, err := loadObjects(cfg, tmp)
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		if o != nil {
			err = errors.Join(err, o.close())
		}
		return nil, errors.Join(fmt.Errorf("make instance: %w", err), os.RemoveAll(tmp))
	}
	return o, nil
}

func loadObjects(cfg Config, dir string) (_ *objects, err error) {
	spec, err := loadRedirect()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	o := &objects{}
	if o.verdicts, err = verdictNames(spec); err != nil {
		return nil, err
	}
	for name, m := range spec.Maps {
		if strings.HasPrefix(name, "fl_") {
			m.Pinning = ebpf.PinByName
		}
	}
	spec.Programs = nil
	err = spec.LoadAndAssign(&o.maps, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return nil, fmt.Errorf("%w: %w", ErrForeignPins, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load maps: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	if err := o.syncNodes(cfg); err != nil {
		return nil, err
	}
	if err := o.attachHost(cfg, dir); err != nil {
		return nil, err
	}
	return o, nil
}

// verdictNames reads the names of the verdicts from BTF: FL_OUT_CAPTURED is out_captured.
func verdictNames(spec *ebpf.CollectionSpec) ([]string, error) {
	var e *btf.Enum
	if err := spec.Types.TypeByName("fl_verdict", &e); err != nil {
		return nil, fmt.Errorf("read names of verdicts: %w", err)
	}
	names := make([]string, redirectFlVerdictFL_VERDICTS)
	for _, v := range e.Values {
		if v.Value < uint64(len(names)) {
			names[v.Value] = strings.ToLower(strings.TrimPrefix(v.Name, "FL_"))
		}
	}
	return names, nil
}

// attachHost loads connect4, connect6 and sockops and attaches them, or brings them up to date.
func (o *objects) attachHost(cfg Config, dir string) error {
	kubelet, host, err := probeSource(cfg)
	if err != nil {
		return err
	}
	wanted := []string{redirectProgFlConnect4, redirectProgFlConnect6, redirectProgFlSockops}
	coll, err := o.load(map[string]any{redirectVarFlKubelet: kubelet, redirectVarFlHost: host}, wanted...)
	if err != nil {
		return err
	}
	defer coll.Close()

	hooks := []struct {
		prog   string
		attach ebpf.AttachType
		path   string
	}{
		{redirectProgFlSockops, ebpf.AttachCGroupSockOps, cfg.Probe.Cgroup},
		{redirectProgFlConnect4, ebpf.AttachCGroupInet4Connect, cfg.Cgroup},
		{redirectProgFlConnect6, ebpf.AttachCGroupInet6Connect, cfg.Cgroup},
	}
	for _, h := range hooks {
		pin := filepath.Join(dir, "link_"+h.prog)
		if h.path == "" {
			if err := dropLink(pin); err != nil {
				return fmt.Errorf("detach %s: %w", h.prog, err)
			}
			continue
		}
		if err := dropCgroupLinkElsewhere(pin, h.path); err != nil {
			return fmt.Errorf("detach %s: %w", h.prog, err)
		}
		attach := func() (link.Link, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: h.path, Attach: h.attach, Program: coll.Programs[h.prog]})
		}
		if err := upsertLink(pin, coll.Programs[h.prog], attach); err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.prog, h.path, err)
		}
	}
	o.kubelet = kubelet
	return nil
}

// load loads programs with these constants over the instance's maps.
func (o *objects) load(vars map[string]any, programs ...string) (*ebpf.Collection, error) {
	spec, err := loadRedirect()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	all := spec.Programs
	spec.Programs = map[string]*ebpf.ProgramSpec{}
	for _, name := range programs {
		spec.Programs[name] = all[name]
	}
	for name, value := range vars {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: o.byName()})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", strings.Join(programs, ", "), err)
	}
	return coll, nil
}

func (o *objects) byName() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		redirectMapFlPods: o.maps.FlPods, redirectMapFlAddrs: o.maps.FlAddrs, redirectMapFlListeners: o.maps.FlListeners,
		redirectMapFlTags: o.maps.FlTags, redirectMapFlProbes: o.maps.FlProbes, redirectMapFlProbePorts: o.maps.FlProbePorts,
		redirectMapFlNodes: o.maps.FlNodes, redirectMapFlUndos: o.maps.FlUndos, redirectMapFlVerdicts: o.maps.FlVerdicts,
	}
}

// mapped is the address as the programs see it: IPv4 within IPv6, in network order.
func mapped(a netip.Addr) redirectFlAddr {
	b := a.As16()
	var f redirectFlAddr
	for i := range f.W {
		f.W[i] = uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
	}
	return f
}
