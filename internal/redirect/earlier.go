package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Earlier is how many connections of a pod are older than its capture.
type Earlier struct {
	N    int
	More bool // there may be more: not all was looked at
}

// What bounds the look at one pod, however many sockets it has.
const (
	earlierCounted = 1000
	earlierLooked  = 20_000
	earlierTime    = time.Second
)

// earlierStates are connections that are there, or on their way: who had called connect() before the capture is not seen by it.
const earlierStates = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_SENT | 1<<unix.BPF_TCP_SYN_RECV

// Earlier counts the connections that these pods have had since before their capture, which no program sees: TCP sockets in
// a pod's namespace, at one of its addresses, that bear none of our marks. Connections to itself, to the node's addresses, where the
// kubelet's probes come from, and to link-local ones are none: they stay outside anyway. A pod that cannot be looked at is not
// in the answer.
func (r *Redirect) Earlier(ctx context.Context, uids []string) (map[string]Earlier, error) {
	node, err := r.addrsOfNode()
	if err != nil {
		return nil, err
	}
	counts := map[string]Earlier{}
	var errs []error
	for _, uid := range uids {
		if ctx.Err() != nil {
			break
		}
		ns, addrs, err := r.lent(uid)
		if errors.Is(err, ErrUnknownPod) {
			continue // it has left meanwhile
		}
		if err == nil {
			l := earlierLook{own: addrs, node: node, until: time.Now().Add(earlierTime)}
			err = errors.Join(ns.Do(l.look), ns.Close())
			counts[uid] = l.found
		}
		if err != nil {
			delete(counts, uid)
			errs = append(errs, fmt.Errorf("pod %s: earlier connections: %w", uid, err))
		}
	}
	return counts, errors.Join(errs...)
}

// lent is a captured pod's namespace, which the caller closes, so that nobody waits for whoever looks at it.
func (r *Redirect) lent(uid string) (*NetNS, []netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.byUID(uid)
	if err != nil {
		return nil, nil, err
	}
	ns, err := p.NetNS.dup()
	return ns, slices.Clone(p.Addrs), err
}

// addrsOfNode are those that the kubelet may probe from.
func (r *Redirect) addrsOfNode() ([]netip.Addr, error) {
	all := slices.Clone(r.cfg.Probe.NodeAddrs)
	if r.cfg.Probe.Cgroup == "" && !r.cfg.Probe.FollowAddrs {
		return unmapped(all), nil // the host's namespace is not asked for anything else either
	}
	err := withHost(r.cfg, func(ns *NetNS) error {
		return ns.Do(func() error {
			addrs, err := addrsOfDevices()
			all = append(all, addrs...)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the node's addresses: %w", err)
	}
	return unmapped(all), nil
}

// earlierLook is one look at a pod.
type earlierLook struct {
	own, node []netip.Addr
	until     time.Time
	looked    int
	found     Earlier
}

// look goes through the sockets of the calling thread's namespace.
func (l *earlierLook) look() error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := l.family(family); err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
	}
	return nil
}

// family ends the dump by closing its socket when enough was seen: the kernel makes each part of it only when the one
// before was read.
func (l *earlierLook) family(family byte) error {
	s, err := nl.Subscribe(unix.NETLINK_INET_DIAG)
	if err != nil {
		return err
	}
	defer s.Close()
	wait := unix.NsecToTimeval(int64(earlierTime))
	if err := errors.Join(s.SetSendTimeout(&wait), s.SetReceiveTimeout(&wait)); err != nil {
		return err
	}
	body := diagRequest{0: family, 1: unix.IPPROTO_TCP}
	nl.NativeEndian().PutUint32(body[4:], earlierStates)
	req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	req.AddData(&body)
	if err := s.Send(req); err != nil {
		return err
	}
	for !l.enough() {
		messages, from, err := s.Receive()
		if errors.Is(err, unix.EINTR) {
			continue // a signal; with a timeout the kernel does not go on by itself
		}
		if err != nil {
			return err
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		if done, err := l.take(messages); done || err != nil {
			return err
		}
	}
	return nil
}

// enough tells whether the look has come to one of its bounds.
func (l *earlierLook) enough() bool {
	l.found.More = l.found.More || l.found.N >= earlierCounted || l.looked >= earlierLooked || !time.Now().Before(l.until)
	return l.found.More
}

// take reads a part of the dump.
func (l *earlierLook) take(messages []syscall.NetlinkMessage) (done bool, err error) {
	for _, m := range messages {
		switch {
		case m.Header.Type == unix.NLMSG_DONE:
			return true, nil
		case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
			return true, syscall.Errno(-int32(nl.NativeEndian().Uint32(m.Data)))
		case m.Header.Type == sockDiagByFamily:
			l.looked++
			if l.counts(m.Data) && l.found.N < earlierCounted {
				l.found.N++
			}
		}
	}
	return false, nil
}

// counts tells whether a socket is one of a connection from before.
func (l *earlierLook) counts(m []byte) bool {
	if len(m) < diagMessageSize || isOurMark(diagMark(m)) {
		return false
	}
	here, there := diagAddr(m, diagSource), diagAddr(m, diagDestination)
	return slices.Contains(l.own, here) && !slices.Contains(l.own, there) && !slices.Contains(l.node, there) &&
		!there.IsLoopback() && !there.IsLinkLocalUnicast()
}

// Offsets of the addresses in an inet_diag_msg.
const (
	diagSource      = 8
	diagDestination = 24
)

// diagAddr reads an address of an inet_diag_msg, whose first byte is the family.
func diagAddr(m []byte, at int) netip.Addr {
	if m[0] == unix.AF_INET {
		return netip.AddrFrom4([4]byte(m[at:]))
	}
	return netip.AddrFrom16([16]byte(m[at:])).Unmap()
}
