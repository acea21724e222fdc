package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	table    = 0x6d01 // routing table, rule preference and protocol by which what we make in a pod is ours
	pref     = 100
	protocol = 0x6d
	loopback = 1 // the index of lo in every namespace
)

// families says what a pod can be captured with.
type families struct{ v4, v6 bool }

// sysctls, in the order of undoValues. The first governs IPv6 too: the app's accepted socket takes the SYN's mark.
// The others keep the resets of closed ports on lo.
var sysctls = [...]string{"net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"}

const absent = -1

func undoValues(u *redirectFlUndo) [len(sysctls)]*int32 {
	return [...]*int32{&u.TcpFwmarkAccept, &u.FwmarkReflect4, &u.FwmarkReflect6}
}

func sysctlPath(cfg Config, name string) string { return filepath.Join(cfg.Proc, "sys", name) }

// readSysctl reads in the namespace of the calling thread, as procfs does.
func readSysctl(cfg Config, name string) (int32, error) {
	b, err := os.ReadFile(sysctlPath(cfg, name))
	if errors.Is(err, fs.ErrNotExist) {
		return absent, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read sysctl: %w", err)
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("sysctl %s: %w", name, err)
	}
	return int32(v), nil
}

func writeSysctl(cfg Config, name string, value int32) error {
	if err := os.WriteFile(sysctlPath(cfg, name), strconv.AppendInt(nil, int64(value), 10), 0); err != nil {
		return fmt.Errorf("write sysctl: %w", err)
	}
	return nil
}

// findFamilies: a family takes an address of it, and for IPv6 that the namespace has not switched it off.
func (r *Redirect) findFamilies(p *pod) error {
	p.families = families{}
	for _, a := range p.Addrs {
		p.families.v4 = p.families.v4 || a.Is4()
		p.families.v6 = p.families.v6 || a.Is6()
	}
	if !p.families.v6 {
		return nil
	}
	return p.NetNS.Do(func() error {
		off, err := readSysctl(r.cfg, "net/ipv6/conf/lo/disable_ipv6")
		p.families.v6 = off == 0
		return err
	})
}

// remember keeps the sysctls' values from before the first enrolment. After a crash, or while the pod is leaving, they
// are there already, and what the namespace has now is ours.
func (r *Redirect) remember(p *pod) error {
	var undo redirectFlUndo
	err := r.objects.maps.FlUndos.Lookup(p.cookie, &undo)
	if err == nil && undo.Done == 1 {
		return nil
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	undo.Done = 1
	err = p.NetNS.Do(func() (err error) {
		for i, v := range undoValues(&undo) {
			if *v, err = readSysctl(r.cfg, sysctls[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.objects.maps.FlUndos.Put(p.cookie, undo)
}

// route sets sysctls, rules and routes of the calling thread's namespace. Twice does no harm.
func route(cfg Config, p *pod) error {
	for _, name := range sysctls {
		v, err := readSysctl(cfg, name)
		if err != nil {
			return err
		}
		if v != 1 && v != absent {
			if err := writeSysctl(cfg, name, 1); err != nil {
				return err
			}
		}
	}
	lo, err := netlink.LinkByIndex(loopback)
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if lo.Attrs().Flags&net.FlagUp == 0 { // runtimes bring it up, but some only after the last CNI plugin
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("set lo up: %w", err)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		src := firstOf(p, family)
		if !src.IsValid() {
			if err := unroute(family); err != nil {
				return err
			}
			continue
		}
		if err := retryIntr(func() error { return netlink.RouteReplace(captureRoute(family, src)) }); err != nil {
			return fmt.Errorf("add route: %w", err)
		}
		for _, rule := range captureRules(family) {
			if err := retryIntr(func() error { return netlink.RuleAdd(rule) }); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add rule: %w", err)
			}
		}
	}
	return nil
}

// firstOf is the address that becomes the source of captured connections: without it, the app's own address would be the
// one that it dials.
func firstOf(p *pod, family int) netip.Addr {
	for _, a := range p.Addrs {
		if family == unix.AF_INET && a.Is4() && p.families.v4 || family == unix.AF_INET6 && a.Is6() && p.families.v6 {
			return a
		}
	}
	return netip.Addr{}
}

// captureRules are the rule that leads to lo, and one behind it for a socket that was bound to a device after connect4/6
// looked at it, which any process may do: it does not see the route to lo, and must not go on to the main table.
func captureRules(family int) []*netlink.Rule {
	mask := uint32(redirectFlMarkFL_MARK_MASK)
	toTable, stop := netlink.NewRule(), netlink.NewRule()
	for i, r := range []*netlink.Rule{toTable, stop} {
		r.Family, r.Priority, r.Protocol = family, pref+i, protocol
		r.Mark, r.Mask = uint32(redirectFlMarkFL_MARK_CAPTURE), &mask
	}
	toTable.Table, stop.Type = table, unix.RTN_UNREACHABLE
	return []*netlink.Rule{toTable, stop}
}

func captureRoute(family int, src netip.Addr) *netlink.Route {
	bits := 32
	if family == unix.AF_INET6 {
		bits = 128
	}
	r := &netlink.Route{
		LinkIndex: loopback, Table: table, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Protocol: protocol, Family: family,
		Dst: &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	return r
}

// unroute removes rules and route of a family from the calling thread's namespace, if they are there.
func unroute(family int) error {
	gone := func(err error) bool {
		return err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EAFNOSUPPORT)
	}
	for _, rule := range captureRules(family) {
		if err := retryIntr(func() error { return netlink.RuleDel(rule) }); !gone(err) {
			return fmt.Errorf("delete rule: %w", err)
		}
	}
	if err := retryIntr(func() error { return netlink.RouteDel(captureRoute(family, netip.Addr{})) }); !gone(err) {
		return fmt.Errorf("delete route: %w", err)
	}
	return nil
}

// restore makes the calling thread's namespace what it was.
func restore(cfg Config, undo *redirectFlUndo) error {
	errs := []error{unroute(unix.AF_INET), unroute(unix.AF_INET6)}
	for i, v := range undoValues(undo) {
		if undo.Done != 1 || *v == absent {
			continue
		}
		now, err := readSysctl(cfg, sysctls[i])
		if err == nil && now != *v {
			err = writeSysctl(cfg, sysctls[i], *v)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
