package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of the kernel.
const tcpEstablished = 1

// sever resets every established connection that a pod of this node has with an address of the prefix, as a client. An
// app makes a new one then: so a test needs not wait for what was there before.
func sever(_ context.Context, args []string) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("which prefix?")
	}
	prefix, err := netip.ParsePrefix(args[0])
	if err != nil {
		return nil, err
	}
	namespaces, err := networks()
	if err != nil {
		return nil, err
	}
	defer closeAll(namespaces)
	n := 0
	for _, ns := range namespaces {
		m, err := severIn(ns, prefix)
		if err != nil {
			return nil, err
		}
		n += m
	}
	return n, nil
}

func severIn(ns network, prefix netip.Prefix) (n int, err error) {
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
		to, ok := netip.AddrFromSlice(s.ID.Destination)
		if s.State != tcpEstablished || !ok || !prefix.Contains(to.Unmap()) {
			continue
		}
		if err := h.SocketDestroy(&net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)}, &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}); err == nil {
			n++
		} // else it has ended by itself
	}
	return n, nil
}
