package redirect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAppBindsBesideAcceptedConnections: what a listener of ours accepts has the port that was dialled, so the kernel
// counts it among the users of that port. An app that starts, or starts again, while such connections are open must
// get its port all the same.
func TestAppBindsBesideAcceptedConnections(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	listeners := must[[]Listener](t)(r.Listeners("p1"))
	t.Cleanup(func() {
		for _, l := range listeners {
			unix.Close(l.FD)
		}
	})
	p1, p3 := w.pods["p1"], w.pods["p3"]
	for i, c := range []struct {
		dir  Direction
		from *NetNS
		to   netip.Addr
	}{
		{In, p3.ns, p1.v4}, {In, p3.ns, p1.v6}, {Out, p1.ns, p3.v4}, {Out, p1.ns, p3.v6},
	} {
		dst := netip.AddrPortFrom(c.to, uint16(8080+i))
		conn := must[net.Conn](t)(dial(c.from, dst, nil))
		defer conn.Close()
		accepted := must[int](t)(acceptFrom(listeners, c.dir, c.to))
		defer unix.Close(accepted)
		for _, addr := range []string{fmt.Sprintf(":%d", dst.Port()), netip.AddrPortFrom(p1.v4, dst.Port()).String()} {
			check(t, p1.ns.Do(func() error {
				l, err := net.Listen("tcp", addr) // with SO_REUSEADDR, as servers have it
				if err != nil {
					return fmt.Errorf("beside a connection %v to %v: %w", c.dir, dst, err)
				}
				return l.Close()
			}))
		}
	}
}

// acceptFrom accepts the connection that waits at the listener of a direction and an address's family.
func acceptFrom(listeners []Listener, dir Direction, to netip.Addr) (int, error) {
	family := 6
	if to.Is4() {
		family = 4
	}
	for _, l := range listeners {
		if l.Direction == dir && l.Family == family {
			fd, _, err := unix.Accept4(l.FD, unix.SOCK_CLOEXEC)
			return fd, err
		}
	}
	return -1, errors.New("no such listener")
}
