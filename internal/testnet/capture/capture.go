// Package capture looks at what is really on the wire: it reads every packet of chosen interfaces and searches TCP streams
// for texts that must not be there in the clear.
//
// Promises:
//  1. From Attach on every packet of the interface is looked at, both ways, or counted as dropped.
//  2. When Run returns, all that was on the wire before its ctx ended has been looked at.
//  3. A marker is found in one segment or split over segments that follow each other, whatever order they come in.
//  4. Memory is bounded: so many flows, so many edges of segments each, and of the hits only the first few in detail.
package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits.
const (
	MaxMarker    = 256
	maxFlows     = 4096
	maxHits      = 16
	maxOpened    = 1024
	receiveBytes = 32 << 20
	packetBytes  = 256 << 10 // of one packet; segmentation offload makes 64 KiB ones, and "big TCP" larger ones
)

// Capture reads the interfaces that were attached to it.
type Capture struct {
	markers [][]byte
	taps    []*tap
	only    func(src, dst netip.Addr) bool

	mu    sync.Mutex // protects stats
	stats Stats
}

// Stats is what was seen.
type Stats struct {
	Packets, Bytes uint64
	Segments       uint64            // TCP segments with a payload
	Dropped        uint64            // by the kernel, for want of room: then no hit proves nothing
	Cut            uint64            // packets larger than one read
	Hits           map[string]uint64 // by marker
	First          []Hit
	// Flows are the connections whose client has sent something, and TLSFlows those of them that began with a TLS
	// handshake record. A connection counts at every interface that it passes.
	Flows, TLSFlows uint64
	// Opened are the connections that were seen to be opened, the first maxOpened of them.
	Opened []Opened
}

// Opened is a connection as its SYN names it.
type Opened struct {
	Where    string
	Src, Dst netip.AddrPort
}

// Hit is a marker that was found.
type Hit struct {
	Where    string
	Src, Dst netip.AddrPort
	Marker   string
}

func (h Hit) String() string {
	return fmt.Sprintf("%q at %s from %s to %s", h.Marker, h.Where, h.Src, h.Dst)
}

// tap is one interface's socket.
type tap struct {
	where    string
	fd       int
	flows    flows
	openings openings
}

// New makes a capture that looks for the markers. An empty one, or one longer than MaxMarker, is a mistake.
func New(markers ...string) (*Capture, error) {
	c := &Capture{stats: Stats{Hits: map[string]uint64{}}}
	for _, m := range markers {
		if m == "" || len(m) > MaxMarker {
			return nil, fmt.Errorf("a marker of %d bytes", len(m))
		}
		c.markers = append(c.markers, []byte(m))
	}
	return c, nil
}

func (c *Capture) tap(where string) *tap {
	return &tap{where: where, flows: newFlows(c.longest()), openings: openings{}}
}

// Attach opens the named interface. inNamespace runs its argument on a thread in the interface's network namespace, such as
// a pod's or node's Do; where is the place's name in hits. It must come before Run.
func (c *Capture) Attach(where string, inNamespace func(func() error) error, device string) error {
	t := c.tap(where)
	err := inNamespace(func() (err error) {
		t.fd, err = open(device)
		return err
	})
	if err != nil {
		return fmt.Errorf("capture at %s: %w", where, err)
	}
	c.taps = append(c.taps, t)
	return nil
}

// Only restricts the capture to packets between addresses that f accepts. It must come before Run.
func (c *Capture) Only(f func(src, dst netip.Addr) bool) { c.only = f }

func (c *Capture) longest() int {
	longest := 1
	for _, m := range c.markers {
		longest = max(longest, len(m))
	}
	return longest
}

// open makes a packet socket for the interface. The kernel takes packets for it from bind on.
func open(device string) (int, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return -1, err
	}
	// Without a protocol it hears nothing before it is bound to the one interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes); err != nil {
		return -1, errors.Join(fmt.Errorf("receive buffer: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: link.Index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind to %s: %w", device, err), unix.Close(fd))
	}
	return fd, nil
}

func bigEndian(n uint16) uint16 { return n<<8 | n>>8 }

// Run looks at packets until ctx ends and those that came before are looked at. It closes the sockets.
func (c *Capture) Run(ctx context.Context) error {
	errs := make([]error, len(c.taps))
	var taps sync.WaitGroup
	for i, t := range c.taps {
		taps.Go(func() { errs[i] = c.read(ctx, t) })
	}
	taps.Wait()
	return errors.Join(errs...)
}

// Close closes the sockets of a capture that is never run.
func (c *Capture) Close() error {
	var errs []error
	for _, t := range c.taps {
		errs = append(errs, unix.Close(t.fd))
	}
	c.taps = nil
	return errors.Join(errs...)
}

// Stats is what was seen so far.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Hits = make(map[string]uint64, len(c.stats.Hits))
	for marker, n := range c.stats.Hits {
		s.Hits[marker] = n
	}
	s.First = append([]Hit(nil), c.stats.First...)
	s.Opened = append([]Opened(nil), c.stats.Opened...)
	return s
}

func (c *Capture) read(ctx context.Context, t *tap) error {
	defer unix.Close(t.fd)
	buf := make([]byte, packetBytes)
	for {
		ended := ctx.Err() != nil // asked before the socket is emptied: what came before is in it
		if err := c.empty(t, buf); err != nil {
			return fmt.Errorf("capture at %s: %w", t.where, err)
		}
		if ended {
			return c.countDrops(t)
		}
		fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int((20 * time.Millisecond).Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

// empty looks at what the socket holds.
func (c *Capture) empty(t *tap, buf []byte) error {
	for {
		n, from, err := unix.Recvfrom(t.fd, buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue // an interface that went down is told once, then it is silent
		case err != nil:
			return fmt.Errorf("read packet: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if ok {
			c.packet(t, bigEndian(link.Protocol), buf[:min(n, len(buf))], n > len(buf))
		}
	}
}

func (c *Capture) countDrops(t *tap) error {
	s, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("capture at %s: statistics: %w", t.where, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Dropped += uint64(s.Drops)
	return nil
}

// packet looks at one packet, from its network header on.
func (c *Capture) packet(t *tap, protocol uint16, b []byte, cut bool) {
	seg, isTCP := parse(protocol, b)
	if c.only != nil && (!isTCP || !c.only(seg.src.Addr(), seg.dst.Addr())) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Packets++
	c.stats.Bytes += uint64(len(b))
	if cut {
		c.stats.Cut++
	}
	if isTCP && seg.opens {
		t.openings.add(seg)
		if len(c.stats.Opened) < maxOpened {
			c.stats.Opened = append(c.stats.Opened, Opened{Where: t.where, Src: seg.src, Dst: seg.dst})
		}
	}
	if !isTCP || len(seg.payload) == 0 {
		return
	}
	c.stats.Segments++
	if began, secure := t.openings.first(seg); began {
		c.stats.Flows++
		if secure {
			c.stats.TLSFlows++
		}
	}
	before, after := t.flows.neighbours(seg)
	for _, m := range c.markers {
		n := count(before, seg.payload, after, m)
		if n == 0 {
			continue
		}
		c.stats.Hits[string(m)] += uint64(n)
		if len(c.stats.First) < maxHits {
			c.stats.First = append(c.stats.First, Hit{Where: t.where, Src: seg.src, Dst: seg.dst, Marker: string(m)})
		}
	}
}
