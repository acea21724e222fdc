package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Direction of the connections that a listener is given.
type Direction uint8

// The directions.
const (
	Out Direction = iota // from the pod: the accepted socket's own address is what the app dialled
	In                   // to the pod: the accepted socket's own address is the pod's, its port the app's
)

func (d Direction) String() string {
	if d == Out {
		return "out"
	}
	return "in"
}

// Listener is one of a pod's listening sockets.
type Listener struct {
	Direction Direction
	Family    int // 4 or 6
	FD        int // non-blocking; the receiver closes it
}

// Ports of hop sockets: a client does not take one by itself, so its next connection cannot have the hop's tuple.
const (
	firstHopPort = 512
	hopPorts     = 512
)

const backlog = 4096

func domain(family int) (int, error) {
	switch family {
	case 4:
		return unix.AF_INET, nil
	case 6:
		return unix.AF_INET6, nil
	}
	return 0, fmt.Errorf("family %d: %w", family, ErrNoFamily)
}

func slotOf(d Direction, family int) redirectFlSlot {
	slot := redirectFlSlotFL_SLOT_OUT4
	if d == In {
		slot = redirectFlSlotFL_SLOT_IN4
	}
	if family == 6 {
		slot++
	}
	return slot
}

func slotKey(cookie uint64, slot redirectFlSlot) redirectFlSlotKey {
	return redirectFlSlotKey{Cookie: cookie, Slot: slot}
}

// listen makes the pod's listeners and puts them into their slots, where they replace those of an earlier process.
func (r *Redirect) listen(p *pod) error {
	if r.suspended {
		return r.emptySlots(p.cookie)
	}
	for _, d := range []Direction{Out, In} {
		for _, family := range []int{4, 6} {
			has := family == 4 && p.families.v4 || family == 6 && p.families.v6
			if !has {
				if err := ignoreNotFound(r.objects.maps.FlListeners.Delete(slotKey(p.cookie, slotOf(d, family)))); err != nil {
					return err
				}
			}
			if has != p.hasListener(d, family) {
				if err := r.changeListener(p, d, family, has); err != nil {
					return fmt.Errorf("%v%d: %w", d, family, err)
				}
			}
		}
	}
	return nil
}

func (p *pod) hasListener(d Direction, family int) bool {
	for _, l := range p.listeners {
		if l.Direction == d && l.Family == family {
			return true
		}
	}
	return false
}

func (r *Redirect) changeListener(p *pod, d Direction, family int, add bool) error {
	if !add {
		var kept []Listener
		for _, l := range p.listeners {
			if l.Direction != d || l.Family != family {
				kept = append(kept, l)
			} else if err := unix.Close(l.FD); err != nil {
				return err
			}
		}
		p.listeners = kept
		return nil
	}
	fd := -1
	err := p.NetNS.Do(func() (err error) {
		fd, err = listenSocket(d, family)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.objects.maps.FlListeners.Put(slotKey(p.cookie, slotOf(d, family)), uint64(fd)); err != nil {
		return errors.Join(fmt.Errorf("fill slot: %w", err), unix.Close(fd))
	}
	p.listeners = append(p.listeners, Listener{Direction: d, Family: family, FD: fd})
	return nil
}

// options are set one after another; the first that fails is named.
type option struct {
	name         string
	level, which int
	value        int
}

func setOptions(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.which, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// localOnly tells the kernel that what is sent on a socket stays in its pod: no path to be measured, nothing to be paced. Where bbr
// is the machine's choice, that spares a timer for each segment. Whoever cannot have it goes without.
func localOnly(fd int) {
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
}

// listenSocket makes a listener in the calling thread's namespace: on a loopback address and any port, so that the app
// has nothing to collide with, and plain TCP, since a multipath socket fits no slot. The outbound one bears CAPTURE:
// its resets reflect the mark and must stay on lo.
func listenSocket(d Direction, family int) (int, error) {
	dom, err := domain(family)
	if err != nil {
		return -1, err
	}
	mark := redirectFlMarkFL_MARK_CAPTURE
	if d == In {
		mark = redirectFlMarkFL_MARK_PROXY
	}
	fd, err := unix.Socket(dom, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	options := []option{
		{"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(mark)},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		// What is accepted has the port that was dialled, in the pod: the app must be able to bind it all the same.
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
	}
	var addr unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if family == 4 {
		options = append(options, option{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT, 1})
	} else {
		addr = &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
		options = append(options, option{"IPV6_V6ONLY", unix.SOL_IPV6, unix.IPV6_V6ONLY, 1}, option{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1})
	}
	if d == Out {
		localOnly(fd)
	}
	err = setOptions(fd, options)
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, addr))
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (p *pod) closeListeners() error {
	var errs []error
	for _, l := range p.listeners {
		errs = append(errs, os.NewSyscallError("close listener", unix.Close(l.FD)))
	}
	p.listeners = nil
	return errors.Join(errs...)
}

func (r *Redirect) emptySlots(cookie uint64) error {
	for slot := redirectFlSlotFL_SLOT_OUT4; slot <= redirectFlSlotFL_SLOT_IN6; slot++ {
		if err := ignoreNotFound(r.objects.maps.FlListeners.Delete(slotKey(cookie, slot))); err != nil {
			return fmt.Errorf("empty slot %d: %w", slot, err)
		}
	}
	return nil
}
