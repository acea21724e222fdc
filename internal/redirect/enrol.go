package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// step is one step of an enrolment or a leave. Every step can be done twice.
type step struct {
	name string
	do   func() error
}

func (r *Redirect) run(steps []step) error {
	for _, s := range steps {
		if r.step != nil {
			if err := r.step(s.name); err != nil {
				return err
			}
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// enrol captures a pod, or brings a captured one up to date. The order: nothing is steered before it has somewhere to go,
// connect4/6 come last but for the guard, which would cut off connections that are not captured yet.
func (r *Redirect) enrol(p *pod) error {
	steps := []step{
		{"families", func() error { return r.findFamilies(p) }},
		{"remember sysctls", func() error { return r.remember(p) }},
		{"route", func() error { return p.NetNS.Do(func() error { return route(r.cfg, p) }) }},
		{"addresses", func() error { return r.syncAddrs(p.cookie, &p.Pod) }},
		r.listening(p),
		{"attach sk_lookup", func() error { return r.attachLookup(p.cookie, p.NetNS) }},
		{"capture", func() error {
			return r.objects.maps.FlPods.Put(p.cookie, redirectFlPod{State: redirectFlStateFL_STATE_CAPTURE})
		}},
		{"guard", func() error { return r.syncGuard(p) }},
	}
	if p.takenOver {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.name == listenStep })
	}
	return r.run(steps)
}

const listenStep = "listen"

func (r *Redirect) listening(p *pod) step {
	return step{listenStep, func() error { return r.listen(p) }}
}

func (r *Redirect) podDir(cookie uint64) string { return podDir(r.dir, cookie) }

func (r *Redirect) attachLookup(cookie uint64, ns *NetNS) error {
	coll, err := r.objects.load(map[string]any{redirectVarFlCookie: cookie}, redirectProgFlSkLookup)
	if err != nil {
		return err
	}
	defer coll.Close()
	prog := coll.Programs[redirectProgFlSkLookup]
	if err := os.Mkdir(r.podDir(cookie), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return upsertLink(r.lookupPin(cookie), prog, func() (link.Link, error) { return link.AttachNetNs(ns.FD(), prog) })
}

func (r *Redirect) lookupPin(cookie uint64) string {
	return filepath.Join(r.podDir(cookie), "link_sk_lookup")
}

func (r *Redirect) guardPin(cookie uint64, index, header int) string {
	return filepath.Join(r.podDir(cookie), fmt.Sprintf("link_guard_%d_%d", index, header))
}

// syncGuard attaches the guard to the pod's devices, or takes it away.
func (r *Redirect) syncGuard(p *pod) error {
	want := map[string]netlink.Link{}
	if p.Guard {
		devices, err := podDevices(p.NetNS)
		if err != nil {
			return err
		}
		for _, d := range devices {
			want[r.guardPin(p.cookie, d.Attrs().Index, linkHeader(d))] = d
		}
	}
	have, err := filepath.Glob(filepath.Join(r.podDir(p.cookie), "link_guard_*"))
	if err != nil {
		return err
	}
	for _, pin := range have {
		if want[pin] == nil {
			if err := dropLink(pin); err != nil {
				return err
			}
		}
	}
	for pin, d := range want {
		if err := r.attachGuard(p.NetNS, pin, d.Attrs().Index, linkHeader(d)); err != nil {
			return fmt.Errorf("%s: %w", d.Attrs().Name, err)
		}
	}
	return nil
}

// attachGuard returns an UnsupportedFeature before Linux 6.6.
func (r *Redirect) attachGuard(ns *NetNS, pin string, index, header int) error {
	coll, err := r.objects.load(map[string]any{redirectVarFlLinkHeader: uint32(header)}, redirectProgFlGuard)
	if err == nil {
		defer coll.Close()
		prog := coll.Programs[redirectProgFlGuard]
		err = upsertLink(pin, prog, func() (l link.Link, err error) {
			e := ns.Do(func() error { // the device's number counts in the namespace of the caller
				l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXEgress})
				return err
			})
			return l, e
		})
	}
	if errors.Is(err, ebpf.ErrNotSupported) {
		return unsupportedGuard(err)
	}
	return err
}

// podDevices are the devices that a pod's packets leave by.
func podDevices(ns *NetNS) (devices []netlink.Link, err error) {
	err = ns.Do(func() error {
		links, err := linkList()
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		for _, l := range links {
			if l.Attrs().Flags&net.FlagLoopback == 0 {
				devices = append(devices, l)
			}
		}
		return nil
	})
	return devices, err
}

func linkHeader(l netlink.Link) int {
	if len(l.Attrs().HardwareAddr) == 6 {
		return 14
	}
	return 0
}

// updatePodPrograms brings the programs of pods of an earlier process up to date. A link that leads nowhere any more
// stays for the first Set, which knows whether its pod has gone.
func (r *Redirect) updatePodPrograms() error {
	cookies, err := pinnedCookies(r.dir)
	if err != nil {
		return err
	}
	nowhere := func() (link.Link, error) { return nil, errNowhere }
	for _, cookie := range cookies {
		coll, err := r.objects.load(map[string]any{redirectVarFlCookie: cookie}, redirectProgFlSkLookup)
		if err != nil {
			return err
		}
		err = upsertLink(r.lookupPin(cookie), coll.Programs[redirectProgFlSkLookup], nowhere)
		coll.Close()
		if err != nil && !errors.Is(err, errNowhere) {
			return fmt.Errorf("update sk_lookup of netns %d: %w", cookie, err)
		}
		if err := r.updateGuards(cookie, nowhere); err != nil {
			return fmt.Errorf("update guard of netns %d: %w", cookie, err)
		}
	}
	return nil
}

var errNowhere = errors.New("what the link was attached to has gone")

func (r *Redirect) updateGuards(cookie uint64, nowhere func() (link.Link, error)) error {
	pins, err := filepath.Glob(filepath.Join(r.podDir(cookie), "link_guard_*"))
	if err != nil {
		return err
	}
	for _, pin := range pins {
		header, err := strconv.Atoi(pin[strings.LastIndexByte(pin, '_')+1:])
		if err != nil {
			return fmt.Errorf("%s: not one of ours: %w", filepath.Base(pin), err)
		}
		coll, err := r.objects.load(map[string]any{redirectVarFlLinkHeader: uint32(header)}, redirectProgFlGuard)
		if err != nil {
			return err
		}
		err = upsertLink(pin, coll.Programs[redirectProgFlGuard], nowhere)
		coll.Close()
		if err != nil && !errors.Is(err, errNowhere) {
			return err
		}
	}
	return nil
}

func unmapped(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = a.Unmap().WithZone("")
	}
	return out
}
