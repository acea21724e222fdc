package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The only callers of netlink's dumps: a dump that is interrupted by a change gives a part, or EINTR.

const maxIntr = 10

func retryIntr(f func() error) error {
	err := f()
	for try := 1; try < maxIntr && (errors.Is(err, unix.EINTR) || errors.Is(err, netlink.ErrDumpInterrupted)); try++ {
		err = f()
	}
	return err
}

func linkList() (links []netlink.Link, err error) {
	err = retryIntr(func() (e error) {
		links, e = netlink.LinkList()
		return e
	})
	return links, err
}

func ruleList(family int) (rules []netlink.Rule, err error) {
	err = retryIntr(func() (e error) {
		rules, e = netlink.RuleList(family)
		return e
	})
	return rules, err
}

func routeList(family, table int) (routes []netlink.Route, err error) {
	err = retryIntr(func() (e error) {
		routes, e = netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		return e
	})
	return routes, err
}

// addrsOfDevices are the addresses of the devices of the calling thread's namespace that are up.
func addrsOfDevices() (found []netip.Addr, err error) {
	links, err := linkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	up := map[int]bool{}
	for _, l := range links {
		up[l.Attrs().Index] = l.Attrs().Flags&net.FlagUp != 0
	}
	var addrs []netlink.Addr
	err = retryIntr(func() (e error) {
		addrs, e = netlink.AddrList(nil, netlink.FAMILY_ALL)
		return e
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && up[a.LinkIndex] {
			found = append(found, ip.Unmap())
		}
	}
	return found, nil
}

// The wire form of linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	diagRequestSize  = 56
	diagMessageSize  = 72
	diagAttrMark     = 15
	// connections that still carry or await data; not TIME-WAIT, CLOSE and LISTEN
	liveStates = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_SYN_RECV | 1<<unix.BPF_TCP_FIN_WAIT1 |
		1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSE_WAIT | 1<<unix.BPF_TCP_LAST_ACK | 1<<unix.BPF_TCP_CLOSING
)

type diagRequest [diagRequestSize]byte

func (r *diagRequest) Len() int          { return len(r) }
func (r *diagRequest) Serialize() []byte { return r[:] }

// proxied counts the live connections of the calling thread's namespace that bear one of our marks: those of the app that
// were captured and both ends of the proxy's.
func proxied() (n int, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var messages [][]byte
		err := retryIntr(func() (e error) {
			body := diagRequest{0: family, 1: unix.IPPROTO_TCP}
			nl.NativeEndian().PutUint32(body[4:], liveStates)
			req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
			req.AddData(&body)
			messages, e = req.Execute(unix.NETLINK_INET_DIAG, sockDiagByFamily)
			return e
		})
		if err != nil {
			return 0, fmt.Errorf("list connections: %w", err)
		}
		for _, m := range messages {
			if isOurMark(diagMark(m)) {
				n++
			}
		}
	}
	return n, nil
}

// diagMark reads the mark from an inet_diag_msg and its attributes; 0 if there is none.
func diagMark(m []byte) uint32 {
	for m = m[min(diagMessageSize, len(m)):]; len(m) >= unix.SizeofRtAttr; {
		size, kind := int(nl.NativeEndian().Uint16(m)), nl.NativeEndian().Uint16(m[2:])
		if size < unix.SizeofRtAttr || size > len(m) {
			return 0
		}
		if kind == diagAttrMark && size >= unix.SizeofRtAttr+4 {
			return nl.NativeEndian().Uint32(m[unix.SizeofRtAttr:])
		}
		m = m[min((size+3)&^3, len(m)):]
	}
	return 0
}

func isOurMark(mark uint32) bool {
	switch redirectFlMark(mark) {
	case redirectFlMarkFL_MARK_CAPTURE, redirectFlMarkFL_MARK_PROXY, redirectFlMarkFL_MARK_HOP:
		return true
	}
	return false
}
