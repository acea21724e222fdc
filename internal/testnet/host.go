package testnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// Host is a machine on the lab's switch.
type Host struct {
	Name  string
	Addrs []netip.Addr // IPv4, IPv6
	place
}

// forwarding makes a namespace a router, and addresses of it usable at once.
var forwarding = map[string]string{
	"ipv4/ip_forward":              "1",
	"ipv4/conf/all/rp_filter":      "0",
	"ipv6/conf/all/forwarding":     "1",
	"ipv6/conf/all/accept_dad":     "0",
	"ipv6/conf/default/accept_dad": "0",
}

// newSwitch makes the namespace whose bridge joins all hosts. It has an address there and is their default route, so that
// whatever leads nowhere is answered by an ICMP error at once.
func (l *Lab) newSwitch() (*Host, error) {
	h, err := l.bareHost("outside", 1)
	if err != nil {
		return nil, err
	}
	err = h.netlink(func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		return h.configure("br0")
	})
	if err != nil {
		_ = h.netns.close()
		return nil, err
	}
	return h, nil
}

// newHost makes a namespace with its eth0 on the switch.
func (l *Lab) newHost(name string, number int) (*Host, error) {
	h, err := l.bareHost(name, number)
	if err != nil {
		return nil, err
	}
	err = l.outside.netlink(func() error { return plug(name, h.netns) })
	if err == nil {
		err = h.netlink(func() error {
			if err := h.configure("eth0"); err != nil {
				return err
			}
			return h.route(netip.Prefix{}, l.outside.Addrs)
		})
	}
	if err != nil {
		_ = h.netns.close()
		return nil, err
	}
	return h, nil
}

func (l *Lab) bareHost(name string, number int) (*Host, error) {
	ns, err := newNetNS()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Addrs: hostAddrs(number),
		place: place{lab: l, netns: ns, hostname: name, cgroup: filepath.Join(l.cgroup, name)}}
	if err := ns.do(func() error { return sysctl(forwarding) }); err != nil {
		_ = ns.close()
		return nil, err
	}
	return h, nil
}

// netlink runs fn in the host's namespace; the netlink package opens its sockets where its caller's thread is.
func (h *Host) netlink(fn func() error) error { return h.netns.do(fn) }

// plug joins ns to the switch by a veth whose near end is named after the host.
func plug(name string, ns *netNS) error {
	bridge, err := netlink.LinkByName("br0")
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index},
		PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", name, err)
	}
	return netlink.LinkSetUp(veth)
}

func (h *Host) configure(device string) error {
	for _, name := range []string{"lo", device} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if name == device {
			for i, bits := range []int{hostNet4.Bits(), hostNet6.Bits()} {
				addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(h.Addrs[i], bits))}
				if err := netlink.AddrAdd(link, addr); err != nil {
					return fmt.Errorf("address %s: %w", h.Addrs[i], err)
				}
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return nil
}

// route leads dst, or everything else when dst is no prefix, to the gateway's address of the same family.
func (h *Host) route(dst netip.Prefix, gateway []netip.Addr) error {
	for _, gw := range gateway {
		if dst.IsValid() && dst.Addr().Is4() != gw.Is4() {
			continue
		}
		to := dst
		if !to.IsValid() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if gw.Is4() {
				to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("route %s via %s: %w", to, gw, err)
		}
	}
	return nil
}

// routeToPods leads every other node's pods to their node.
func (h *Host) routeToPods(nodes []*Node) error {
	return h.netlink(func() error {
		for _, n := range nodes {
			if &n.Host == h {
				continue
			}
			for _, cidr := range n.PodCIDRs {
				if err := h.route(cidr, n.Addrs); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Run runs a program on the host and returns its standard output.
func (h *Host) Run(ctx context.Context, c Command) ([]byte, error) { return h.run(ctx, c) }

// Start starts a program on the host.
func (h *Host) Start(c Command) (*Process, error) { return h.start(c) }

// Do runs fn on a thread in the host's network namespace: sockets that it opens itself are the host's.
func (h *Host) Do(fn func() error) error { return h.netns.do(fn) }

// Dial connects from the host. addr holds an IP address, no name.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialFrom(ctx, h.netns, network, addr)
}

// NetNS is a path of the host's network namespace, good while the lab's process lives.
func (h *Host) NetNS() string { return h.netns.path() }

// StartProduct starts a program of ours as root, with its output in the log <host>-<role>.log.
func (h *Host) StartProduct(role string, c Command) (*Process, error) {
	c.Log = h.Name + "-" + role + ".log"
	return h.start(c)
}

func dialFrom(ctx context.Context, ns *netNS, network, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, err // names are looked up on other threads, and so from elsewhere
	}
	err = ns.do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}
