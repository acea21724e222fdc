package loop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Secure is a TLS connection: made blocking, by a handshake on a goroutine of the caller's, and then either used as it is
// (it is a net.Conn) or given to a loop by AttachTLS.
type Secure struct {
	*tls.Conn
	tcp  *net.TCPConn
	shim *shim
	bye  bool // close_notify has come
	said bool // ... and has been sent
}

// Server shakes hands as the server; first is what was already read from c. On error c is still the caller's.
func Server(ctx context.Context, c *net.TCPConn, first []byte, cfg *tls.Config) (*Secure, error) {
	s := &Secure{tcp: c, shim: &shim{tcp: c, in: first}}
	s.Conn = tls.Server(s.shim, cfg)
	return s, s.shake(ctx)
}

// Client shakes hands as the client. On error c is still the caller's.
func Client(ctx context.Context, c *net.TCPConn, cfg *tls.Config) (*Secure, error) {
	s := &Secure{tcp: c, shim: &shim{tcp: c}}
	s.Conn = tls.Client(s.shim, cfg)
	return s, s.shake(ctx)
}

func (s *Secure) shake(ctx context.Context) error {
	s.shim.hands = handBytes
	err := s.HandshakeContext(ctx)
	s.shim.hands = 0
	return err
}

// TCP is the connection below.
func (s *Secure) TCP() *net.TCPConn { return s.tcp }

func (s *Secure) adopt(c *conn) { s.shim.loop = c }

// push hands ciphertext to TLS. It is valid during the turn only; open copies what it leaves.
func (s *Secure) push(b []byte) {
	if len(s.shim.in) > 0 {
		s.shim.in = append(s.shim.in, b...)
		return
	}
	s.shim.in = b
}

// open decrypts what there is and delivers it, until the protocol pauses. It is also called once after the handshake:
// the last flight may have brought data that crypto/tls has already taken from the socket.
func (c *conn) open() {
	for !c.paused && !c.closed && !c.closing && !c.sec.bye {
		n, err := c.sec.gather(c.l.plain)
		if n > 0 {
			c.deliver(c.l.plain[:n])
		}
		if c.closed || c.closing {
			return
		}
		if c.paused {
			break // TLS repeats its end when it is asked again
		}
		if err == io.EOF {
			c.sec.bye, c.eof = true, true
			c.touch()
			c.proto.EOF()
			return
		}
		if _, dry := err.(dry); dry {
			break
		}
		if err != nil {
			c.touch() // an alert may be waiting
			c.flush()
			c.fail(err)
			return
		}
	}
	if left := c.sec.shim.in; len(left) > 0 {
		c.sec.shim.in = append([]byte(nil), left...)
	}
}

// gather reads records until the buffer is full or there are no more.
func (s *Secure) gather(buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = s.Read(buf[n:])
		n += m
	}
	return n, err
}

// shim is the net.Conn below crypto/tls: the socket during the handshake, the loop's buffers afterwards.
type shim struct {
	tcp    *net.TCPConn
	in     []byte
	loop   *conn
	direct bool // reads do not wait, and are of fd: see Intake
	fd     int
	mu     sync.Mutex // protects held, and the order of what goes out
	held   *[sealedSize]byte
	n      int // of held
	hands  int // bytes that a handshake may still read; there is no bound where it is 0
}

// handBytes is how much the other side of a handshake may say: certificates and all. crypto/tls would keep 256 KiB of it before it has
// verified anything.
const handBytes = 32 << 10

var errHands = errors.New("handshake is too long")

// dry says that there is nothing to read now. crypto/tls goes on after an error that is temporary.
type dry struct{}

func (dry) Error() string   { return "no input" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

func (s *shim) Read(b []byte) (int, error) {
	if s.hands == 0 {
		return s.read(b)
	}
	n, err := s.read(b[:min(len(b), s.hands)])
	if s.hands -= n; s.hands == 0 && err == nil {
		s.hands, err = 1, errHands // whatever is read now is too much
	}
	return n, err
}

func (s *shim) read(b []byte) (int, error) {
	if len(s.in) > 0 {
		n := copy(b, s.in)
		s.in = s.in[n:]
		return n, nil
	}
	if s.loop != nil {
		return 0, dry{}
	}
	s.in = nil
	if s.direct {
		return receive(s.fd, b)
	}
	return s.tcp.Read(b)
}

func (s *shim) Write(b []byte) (int, error) {
	if c := s.loop; c != nil {
		c.wire = c.l.buffers.Append(c.wire, b)
		c.touch()
		return len(b), nil
	}
	return s.send(b)
}

func (s *shim) Close() error                       { return s.tcp.Close() }
func (s *shim) LocalAddr() net.Addr                { return s.tcp.LocalAddr() }
func (s *shim) RemoteAddr() net.Addr               { return s.tcp.RemoteAddr() }
func (s *shim) SetDeadline(t time.Time) error      { return s.tcp.SetDeadline(t) }
func (s *shim) SetReadDeadline(t time.Time) error  { return s.tcp.SetReadDeadline(t) }
func (s *shim) SetWriteDeadline(t time.Time) error { return s.tcp.SetWriteDeadline(t) }
