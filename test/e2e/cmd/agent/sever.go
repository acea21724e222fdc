package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of the kernel.
const tcpEstablished = 1

// sever resets every established connection of the pods with these addresses. Their apps make new ones then: so a test
// needs not wait for what was there before.
func sever(_ context.Context, args []string) (any, error) {
	pods := map[netip.Addr]bool{}
	for _, a := range args {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		pods[addr] = true
	}
	namespaces, err := networks()
	if err != nil {
		return nil, err
	}
	defer closeAll(namespaces)
	n := 0
	for _, ns := range namespaces {
		m, err := severIn(ns, pods)
		if err != nil {
			return nil, err
		}
		n += m
	}
	return n, nil
}

func severIn(ns network, pods map[netip.Addr]bool) (n int, err error) {
	h, err := netlink.NewHandleAt(nsHandle(ns.fd), unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open netlink in %s: %w", ns.path, err)
	}
	defer h.Close()
	sockets, err := h.SocketDiagTCP(unix.AF_INET)
	if err != nil {
		return 0, fmt.Errorf("list connections in %s: %w", ns.path, err)
	}
	for _, s := range sockets {
		own, ok := netip.AddrFromSlice(s.ID.Source)
		if s.State != tcpEstablished || !ok || !pods[own.Unmap()] {
			continue
		}
		if err := h.SocketDestroy(&net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)}, &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}); err == nil {
			n++
		} // else it has ended by itself
	}
	return n, nil
}
