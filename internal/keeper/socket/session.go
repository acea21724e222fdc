package socket

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of one connection. A client of ours has half as many requests in flight as are allowed, since it may see
// a reply before the server has counted it as sent.
const (
	maxPending     = 2 * MaxInFlight
	maxQueued      = 8192     // messages
	maxQueuedBytes = 32 << 20 // bytes in them
	maxQueuedFDs   = 8192     // descriptors in them
	workers        = 4
)

// session is one proxy's connection. It is the Handler that the keeper sends events to.
type session struct {
	c        *net.UnixConn
	keeper   Keeper
	requests chan job
	pending  atomic.Int64 // requests received whose replies are not written yet

	queue struct {
		sync.Mutex
		packets    []packet
		bytes, fds int
		broken     error         // why nothing is taken any more
		more       chan struct{} // holds a token when there is something to write, or nothing ever again
	}
}

// job is a request with what came with it.
type job struct {
	*request
	fds []int
}

func newSession(c *net.UnixConn, k Keeper) *session {
	s := &session{c: c, keeper: k, requests: make(chan job, maxPending)}
	s.queue.more = make(chan struct{}, 1)
	return s
}

// run serves the connection until it ends and returns why it did.
func (s *session) run() error {
	in := newInbox(s.c)
	if err := greet(s.c, in); err != nil {
		return err
	}
	var writing, working sync.WaitGroup
	writing.Go(s.write)
	for range workers {
		working.Go(s.work)
	}
	s.keeper.Attached(s)

	err := s.read(in)
	s.fail(err)
	close(s.requests)
	working.Wait()
	s.keeper.Detached(s)
	writing.Wait()
	return s.reason()
}

// read takes requests in until the connection ends or breaks the protocol.
func (s *session) read(in *inbox) error {
	for {
		data, fds, err := in.receive()
		if err != nil {
			return err
		}
		q, err := parseRequest(data)
		if err == nil && len(fds) != q.descriptors() {
			err = violate(Descriptors, "%d with a message of type %d", len(fds), q.kind)
		}
		if err == nil && s.pending.Add(1) > maxPending {
			err = violate(Flood, "more than %d requests in flight", maxPending)
		}
		if err != nil {
			closeAll(fds)
			return err
		}
		s.requests <- job{q, fds} // never waits: it has room for all that may be pending
	}
}

// work answers requests until there are no more.
func (s *session) work() {
	for j := range s.requests {
		if s.reason() != nil {
			closeAll(j.fds)
			continue
		}
		p, err := s.answer(j)
		var v *Violation
		if errors.As(err, &v) {
			s.fail(err)
			continue
		}
		if err != nil {
			p = packet{data: encodeRefusal(j.id, err)}
		}
		s.push(p)
	}
}

// answer asks the keeper and returns the reply.
func (s *session) answer(j job) (packet, error) {
	defer closeAll(j.fds)
	w := start(kindReply, j.id)
	switch j.kind {
	case kindSockets:
		fds, err := s.keeper.Sockets(j.uid, j.family, j.n)
		return packet{w.b, fds}, err
	case kindHop:
		fd, err := s.keeper.Hop(j.uid, j.client)
		return packet{w.b, []int{fd}}, err
	case kindSign:
		signature, err := s.keeper.Sign(j.account, j.leaf, j.content)
		if err != nil {
			return packet{}, err
		}
		w.bytes(signature, maxSignature)
		data, err := w.done()
		return packet{data: data}, err
	case kindVerdicts:
		verdicts, err := s.keeper.Verdicts()
		if err != nil {
			return packet{}, err
		}
		data, err := encodeVerdicts(j.id, verdicts)
		return packet{data: data}, err
	case kindSaveState:
		return packet{data: w.b}, s.keeper.SaveState(j.fds[0])
	case kindLoadState:
		fd, err := s.keeper.LoadState()
		return packet{w.b, []int{fd}}, err
	case kindServing:
		s.keeper.Serving(s)
		return packet{data: w.b}, nil
	}
	return packet{}, fmt.Errorf("message of type %d", j.kind)
}

// push queues a message, or breaks the connection if the peer has left too many unread. It never waits.
func (s *session) push(p packet) {
	q := &s.queue
	q.Lock()
	full := len(q.packets) >= maxQueued || q.bytes+len(p.data) > maxQueuedBytes || q.fds+len(p.fds) > maxQueuedFDs
	taken := q.broken == nil && !full
	if taken {
		q.packets = append(q.packets, p)
		q.bytes += len(p.data)
		q.fds += len(p.fds)
	}
	q.Unlock()
	if !taken {
		p.close()
	}
	if full {
		s.fail(violate(Slow, "more than %d messages, %d bytes or %d descriptors unread", maxQueued, maxQueuedBytes, maxQueuedFDs))
	}
	s.wake()
}

func (s *session) wake() {
	select {
	case s.queue.more <- struct{}{}:
	default:
	}
}

// fail breaks the connection; the first reason stays. What is queued goes nowhere any more.
func (s *session) fail(err error) {
	q := &s.queue
	q.Lock()
	if q.broken == nil {
		q.broken = err
	}
	for _, p := range q.packets {
		p.close()
	}
	q.packets = nil
	q.Unlock()
	s.c.Close()
	s.wake()
}

func (s *session) reason() error {
	s.queue.Lock()
	defer s.queue.Unlock()
	return s.queue.broken
}

// next takes the whole queue.
func (s *session) next() ([]packet, error) {
	q := &s.queue
	q.Lock()
	defer q.Unlock()
	packets := q.packets
	q.packets = nil
	return packets, q.broken
}

// write sends what is queued until the connection breaks.
func (s *session) write() {
	for range s.queue.more {
		packets, broken := s.next()
		for i, p := range packets {
			if broken == nil {
				broken = s.sendOne(p)
				continue
			}
			for _, rest := range packets[i:] {
				rest.close()
			}
			break
		}
		if broken != nil {
			s.fail(broken)
			return
		}
	}
}

func (s *session) sendOne(p packet) error {
	reply := kind(p.data[0]) == kindReply || kind(p.data[0]) == kindRefusal
	size, fds := len(p.data), len(p.fds)
	if err := send(s.c, p); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return &Violation{Kind: Slow, Err: err}
		}
		return err
	}
	s.queue.Lock()
	s.queue.bytes -= size
	s.queue.fds -= fds
	s.queue.Unlock()
	if reply {
		s.pending.Add(-1)
	}
	return nil
}

// The session is a Handler: its methods queue the events for the peer.

func (s *session) event(e event, fds []int) {
	data, err := e.encode()
	if err != nil {
		closeAll(fds)
		s.fail(fmt.Errorf("encode event: %w", err))
		return
	}
	s.push(packet{data, fds})
}

// Enrolled owns the listeners' descriptors.
func (s *session) Enrolled(p Pod, listeners []Listener) {
	fds := make([]int, 0, len(listeners))
	for _, l := range listeners {
		fds = append(fds, l.FD)
	}
	s.event(event{enrolled: &enrolled{p, listeners}}, fds)
}

func (s *session) Left(uid string, drain time.Duration) {
	s.event(event{left: &left{uid, drain}}, nil)
}

// Synced ends the events of the beginning.
func (s *session) Synced() { s.event(event{synced: true}, nil) }

// Others names at most as many programs as are believed.
func (s *session) Others(programs []string) {
	s.event(event{others: &others{programs[:min(len(programs), maxPrograms)]}}, nil)
}

// Earlier is about a pod that was told before.
func (s *session) Earlier(uid string, e Earlier) { s.event(event{earlier: &earlier{uid, e}}, nil) }

// Superseded ends nothing: the connection stays for what the proxy still has.
func (s *session) Superseded() { s.event(event{superseded: true}, nil) }

func (s *session) Certificate(c Certificate) { s.event(event{certificate: &c}, nil) }

func (s *session) Roots(trustDomain string, pem []byte) {
	s.event(event{roots: &roots{trustDomain, pem}}, nil)
}
