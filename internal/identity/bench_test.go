package identity

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkHandshake is what the TLS of a new connection costs, both ends together: configurations, handshake, ticket, and one byte
// in each direction. The ends are two goroutines with a pipe in memory between them, and keys are in the process: a system
// call, a network, and the way to a keeper come on top, of which a resumed handshake has no keeper.
//
//	go test ./internal/identity -run '^$' -bench Handshake -benchmem -count 6
func BenchmarkHandshake(b *testing.B) {
	b.Run("full", func(b *testing.B) { benchmarkHandshake(b, true, false) })
	b.Run("full-without-tickets", func(b *testing.B) { benchmarkHandshake(b, false, false) })
	b.Run("resumed", func(b *testing.B) { benchmarkHandshake(b, true, true) })
}

func benchmarkHandshake(b *testing.B, tickets, resumed bool) {
	c := newCouple(b)
	c.well("to have a session", false)
	c.tune = func(client, server *tls.Config) {
		client.SessionTicketsDisabled, server.SessionTicketsDisabled = !tickets, !tickets
	}
	b.ReportAllocs()
	before := cpu(b)
	wire := 0
	for b.Loop() {
		if !resumed {
			c.all.drop(c.client.resume)
		}
		client, server := c.configs()
		x, y := newPipe()
		done := make(chan error, 1)
		go func() { done <- exchange(tls.Server(y, server)) }()
		conn := tls.Client(x, client)
		if err := exchange(conn); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if conn.ConnectionState().DidResume != resumed {
			b.Fatal("it was the other kind")
		}
		wire += x.out.n + y.out.n
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(wire)/float64(b.N), "wire-B/op")
}

// exchange says one byte and hears one: the handshake comes first, and the ticket before the byte.
func exchange(c *tls.Conn) error {
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// cpu is what the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pipeEnd is one end of a pipe with a buffer, so that nobody waits for a reader.
type pipeEnd struct {
	net.Conn
	in, out *pipeWay
}

type pipeWay struct {
	mu  sync.Mutex
	on  sync.Cond
	buf []byte
	n   int // bytes in all
}

func newPipe() (x, y *pipeEnd) {
	there, back := &pipeWay{}, &pipeWay{}
	there.on.L, back.on.L = &there.mu, &back.mu
	return &pipeEnd{in: back, out: there}, &pipeEnd{in: there, out: back}
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	for len(p.in.buf) == 0 {
		p.in.on.Wait()
	}
	n := copy(b, p.in.buf)
	p.in.buf = p.in.buf[n:]
	return n, nil
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	p.out.buf = append(p.out.buf, b...)
	p.out.n += len(b)
	p.out.on.Signal()
	return len(b), nil
}

func (p *pipeEnd) RemoteAddr() net.Addr { return &net.TCPAddr{} }
