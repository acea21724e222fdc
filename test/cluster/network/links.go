package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridge = "br0"
	uplink = "eth0" // a node's side of its cable
)

// Space is a network namespace, named by a process in it.
type Space struct {
	handle *netlink.Handle
	ns     netns.NsHandle
}

// Open opens the network namespace of a process.
func Open(pid int) (*Space, error) {
	ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink of process %d: %w", pid, err), ns.Close())
	}
	return &Space{handle: handle, ns: ns}, nil
}

// Close lets go of the namespace.
func (s *Space) Close() error {
	s.handle.Close()
	return s.ns.Close()
}

// MakeBridge makes the switch's bridge, with the switch's own addresses.
func (s *Space) MakeBridge(addresses ...netip.Prefix) error {
	if err := s.up("lo"); err != nil {
		return err
	}
	err := s.handle.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add bridge: %w", err)
	}
	return s.address(bridge, addresses)
}

// Cable joins a node to the switch, and gives its end the addresses.
func (s *Space) Cable(node *Space, name string, addresses ...netip.Prefix) error {
	if _, err := node.handle.LinkByName(uplink); err == nil {
		return nil
	}
	port := "v-" + name
	if old, err := s.handle.LinkByName(port); err == nil { // of a node that was ended, still on its way out
		if err := s.handle.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("delete the old cable of %s: %w", name, err)
		}
	}
	ports, err := s.handle.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: ports.Attrs().Index}, PeerName: uplink,
		PeerNamespace: netlink.NsFd(node.ns)}
	if err := s.handle.LinkAdd(cable); err != nil {
		return fmt.Errorf("add the cable of %s: %w", name, err)
	}
	if err := s.up(port); err != nil {
		return err
	}
	if err := node.up("lo"); err != nil {
		return err
	}
	return node.address(uplink, addresses)
}

func (s *Space) address(name string, addresses []netip.Prefix) error {
	link, err := s.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, a := range addresses {
		address := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD // nobody else is there, and an address that is being asked for is of no use yet
		}
		if err := s.handle.AddrReplace(link, address); err != nil {
			return fmt.Errorf("give %s address %s: %w", name, a, err)
		}
	}
	return s.up(name)
}

// Route sends what is for a network by way of an address; 0.0.0.0/0 is all else.
func (s *Space) Route(to netip.Prefix, via netip.Addr) error {
	if err := s.handle.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: net.IP(via.AsSlice())}); err != nil {
		return fmt.Errorf("route %s by %s: %w", to, via, err)
	}
	return nil
}

func (s *Space) up(name string) error {
	link, err := s.handle.LinkByName(name)
	if err == nil {
		err = s.handle.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Inode tells a network namespace from all others, as long as it exists.
func Inode(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)) }
