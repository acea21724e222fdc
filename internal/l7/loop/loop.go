// Package loop runs connections on a single-threaded event loop: one epoll instance, nested in the Go netpoller, one
// read per event into a shared buffer, and one write per connection and turn.
//
// Promises:
//  1. Every call into an exchange.Protocol, every posted function and every timer of a Loop runs on its Run
//     goroutine, one at a time. A protocol's Closed is never called from inside another call to it.
//  2. Nothing blocks in a turn: sockets are non-blocking, and TLS handshakes are made before Attach.
//  3. A panic ends the connection that it came from, and nothing else.
//  4. When Run returns, every descriptor of the loop is closed and every protocol has had its Closed.
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// ErrStopped is what a protocol's Closed gets when its loop ends, and what Attach returns afterwards.
var ErrStopped = errors.New("loop stopped")

// errPanic is what a protocol's Closed gets after it has panicked.
var errPanic = errors.New("panic in protocol")

const (
	readBuffer = 64 << 10
	turnEvents = 256
	maxRounds  = 32
)

// Loop is an exchange.Loop with its own epoll instance.
type Loop struct {
	log     *slog.Logger
	epoll   int
	wake    int // eventfd
	file    *os.File
	raw     syscall.RawConn
	now     time.Time
	conns   []*conn // by descriptor
	open    int     // how many there are
	dirty   []*conn // have output or a changed event mask
	again   []*conn // have input that was left over, and were resumed
	gone    []*conn // closed; Closed not yet called
	timers  timers
	pace    pace
	share   share
	after   func() // may be nil
	buf     []byte // what was read
	plain   []byte // what TLS made of it
	buffers exchange.Buffers
	events  [turnEvents]unix.EpollEvent
	idle    waiting
	panics  atomic.Uint64

	posted struct {
		sync.Mutex
		queue  []func()
		spare  []func()
		woken  bool
		closed bool
	}
	stopping bool // on the loop only
}

// New makes a loop. It holds descriptors until Run returns; a loop that is never run is given up by Close.
func New(log *slog.Logger) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll create: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &Loop{log: log, epoll: epoll, wake: wake, now: time.Now()}
	l.idle.poll = l.poll
	if err := l.nest(); err != nil {
		unix.Close(wake)
		return nil, err
	}
	return l, nil
}

// nest puts the epoll descriptor into the Go netpoller: a goroutine that waits for it costs no thread.
func (l *Loop) nest() error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wake)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &ev); err != nil {
		unix.Close(l.epoll)
		return fmt.Errorf("epoll add eventfd: %w", err)
	}
	if err := unix.SetNonblock(l.epoll, true); err != nil {
		unix.Close(l.epoll)
		return fmt.Errorf("epoll set non-blocking: %w", err)
	}
	l.file = os.NewFile(uintptr(l.epoll), "epoll")
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		l.file.Close()
		return fmt.Errorf("nest epoll in the netpoller: %w", err)
	}
	raw, err := l.file.SyscallConn()
	if err != nil {
		l.file.Close()
		return fmt.Errorf("nest epoll in the netpoller: %w", err)
	}
	l.raw = raw
	return nil
}

// Close gives up a loop that was never run.
func (l *Loop) Close() error {
	l.posted.Lock()
	l.posted.closed = true
	l.posted.Unlock()
	return errors.Join(l.file.Close(), unix.Close(l.wake))
}

// Now is the time at which the turn began.
func (l *Loop) Now() time.Time { return l.now }

// Panics is how many panics were caught.
func (l *Loop) Panics() uint64 { return l.panics.Load() }

// Post runs f on the loop. After the loop's end it does nothing.
func (l *Loop) Post(f func()) { l.Do(f) }

// Do is Post, and tells whether f will run.
func (l *Loop) Do(f func()) bool {
	p := &l.posted
	p.Lock()
	defer p.Unlock()
	if p.closed {
		return false
	}
	p.queue = append(p.queue, f)
	if !p.woken {
		p.woken = true
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:]) // fails only when the counter is full, and then the loop is awake
	}
	return true
}

// AfterTurn has f called on the loop behind each of its turns, when nothing of the loop is on the stack. It is called before Run.
func (l *Loop) AfterTurn(f func()) { l.after = f }

// Run serves until ctx ends, then aborts what is still connected.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.Post(func() { l.stopping = true }) })
	defer stop()
	l.buf = make([]byte, readBuffer)
	l.plain = make([]byte, readBuffer)
	var err error
	for !l.stopping && err == nil {
		err = l.turn()
	}
	l.shut()
	return err
}

func (l *Loop) turn() error {
	n, err := l.wait()
	if err != nil {
		return err
	}
	l.now = time.Now()
	l.pace.saw(n, l.now)
	l.serve(n)
	if l.pace.busy && len(l.dirty) > 0 {
		doze(gathering)
		n = l.look()
		l.now = time.Now()
		l.pace.saw(n, l.now)
		l.serve(n)
	}
	l.runPosted()
	l.runTimers()
	l.settle()
	return nil
}

// serve hands the events that were found to their connections.
func (l *Loop) serve(n int) {
	if n > turnShare && l.now.Sub(l.share.mixed) < shareFor {
		l.serveShared(n)
		return
	}
	for i := range n {
		l.handle(&l.events[i])
	}
}

func (l *Loop) handle(ev *unix.EpollEvent) {
	fd := int(ev.Fd)
	if fd == l.wake {
		var b [8]byte
		_, _ = recv(l.wake, b[:]) // empty if it was read for an earlier wake
		return
	}
	if c := l.conn(fd); c != nil {
		l.share.saw(c.owner, l.now)
		l.guard(c, func() { c.event(ev.Events) })
	}
}

// conn is the connection with a descriptor, or nil.
func (l *Loop) conn(fd int) *conn {
	if fd >= len(l.conns) {
		return nil
	}
	return l.conns[fd]
}

func (l *Loop) addConn(c *conn) {
	if c.fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*conn, max(c.fd+1-len(l.conns), len(l.conns)))...)
	}
	l.conns[c.fd] = c
	l.open++
}

func (l *Loop) dropConn(c *conn) {
	l.conns[c.fd] = nil
	l.open--
}

func (l *Loop) runPosted() {
	p := &l.posted
	p.Lock()
	queue := p.queue
	p.queue, p.spare = p.spare[:0], nil
	p.woken = false
	p.Unlock()
	for i, f := range queue {
		queue[i] = nil
		l.guard(nil, f)
	}
	p.Lock()
	if p.spare == nil && cap(queue) < 4096 {
		p.spare = queue[:0]
	}
	p.Unlock()
}

func (l *Loop) runTimers() {
	for {
		f := l.timers.due(l.now)
		if f == nil {
			return
		}
		l.guard(nil, f)
	}
}

func (l *Loop) unsettled() bool { return len(l.again)+len(l.dirty)+len(l.gone) > 0 }

// settle ends a turn: what was left over is fed, output goes out, the closed get their last call. Each may cause more,
// which after some rounds has to wait for the next turn: nobody may keep the loop to himself.
func (l *Loop) settle() {
	for round := 0; l.unsettled() && round < maxRounds; round++ {
		again := len(l.again) // those that come meanwhile are for the next round
		for i := 0; i < again; i++ {
			c := l.again[i]
			c.again = false
			l.guard(c, c.refeed)
		}
		l.again = slices.Delete(l.again, 0, again)
		for i := 0; i < len(l.dirty); i++ {
			c := l.dirty[i]
			c.dirty = false
			l.guard(c, c.flush)
		}
		l.dirty = clearConns(l.dirty)
		for i := 0; i < len(l.gone); i++ {
			c := l.gone[i]
			l.guard(nil, func() { c.proto.Closed(c.why) })
		}
		l.gone = clearConns(l.gone)
	}
	if l.after != nil {
		l.guard(nil, l.after)
	}
}

func clearConns(s []*conn) []*conn {
	clear(s)
	return s[:0]
}

// guard runs f; if it panics, the connection it belongs to ends.
func (l *Loop) guard(c *conn, f func()) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		l.panics.Add(1)
		l.log.Error("panic on a loop", "panic", r, "stack", string(debug.Stack()))
		if c != nil {
			c.reset()
			c.finish(errPanic)
		}
	}()
	f()
}

// shut ends everything. Functions that were posted before still run: they may hold connections, which Attach refuses.
func (l *Loop) shut() {
	for {
		for _, c := range l.conns {
			if c != nil {
				c.reset()
				c.finish(ErrStopped)
			}
		}
		l.settle()
		l.posted.Lock()
		if len(l.posted.queue) == 0 && l.open == 0 && !l.unsettled() {
			l.posted.closed = true
			l.posted.Unlock()
			break
		}
		l.posted.Unlock()
		l.runPosted()
	}
	l.file.Close()
	unix.Close(l.wake)
}
