package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pieceSize is what a goroutine carries at once: four full TLS records. What is sealed is a little longer, most of all while crypto/tls
// still makes small records.
const (
	pieceSize  = 64 << 10
	sealedSize = pieceSize + 4<<10
	fewSize    = 2 << 10 // while there is little room
)

var (
	pieces = sync.Pool{New: func() any { return &[pieceSize]byte{} }}
	sealed = sync.Pool{New: func() any { return &[sealedSize]byte{} }}
)

// Intake reads a connection on a goroutine: at once all that is there, up to a piece. While nothing is, it has no buffer. What a Secure
// has read for itself before is not lost.
type Intake struct {
	raw syscall.RawConn
	sec *Secure // nil for plain TCP
	try func(fd uintptr) bool
	few func() bool
	buf []byte
	n   int
	err error
}

// NewIntake makes an intake for c, a *net.TCPConn or a *Secure that is on no loop. Nobody else reads it from then on. While few
// says so, pieces are small.
func NewIntake(c net.Conn, few func() bool) (*Intake, error) {
	i := &Intake{few: few}
	tcp, plain := c.(*net.TCPConn)
	if !plain {
		i.sec = c.(*Secure)
		tcp = i.sec.tcp
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read in pieces: %w", err)
	}
	i.raw, i.try = raw, i.attempt
	return i, nil
}

// Read waits until there is something. The bytes are valid until Pass or Release; an error may come along with them.
func (i *Intake) Read() ([]byte, error) {
	if err := i.raw.Read(i.try); err != nil {
		return nil, err
	}
	if i.buf == nil {
		return nil, i.err
	}
	return i.buf[:i.n], i.err
}

// Pass writes to dst what was read last, and lets go of it as early as it can: a peer that does not read is waited for with one buffer.
func (i *Intake) Pass(dst net.Conn) (int, error) {
	defer i.Release()
	s, secure := dst.(*Secure)
	if !secure || len(i.buf) < pieceSize {
		return dst.Write(i.buf[:i.n])
	}
	s.shim.hold()
	n, err := s.Write(i.buf[:i.n])
	i.Release()
	return n, errors.Join(err, s.shim.flush())
}

// Size is how many bytes are held for what was read last, until it has been passed on.
func (i *Intake) Size() int { return len(i.buf) }

// Release gives the buffer back.
func (i *Intake) Release() {
	if len(i.buf) == pieceSize {
		pieces.Put((*[pieceSize]byte)(i.buf))
	}
	i.buf = nil
}

// attempt reads what there is. The netpoller calls it again when there is more.
func (i *Intake) attempt(fd uintptr) bool {
	switch {
	case i.buf != nil:
	case i.few():
		i.buf = make([]byte, fewSize)
	default:
		i.buf = pieces.Get().(*[pieceSize]byte)[:]
	}
	if i.sec != nil {
		i.sec.shim.direct, i.sec.shim.fd = true, int(fd)
		i.n, i.err = i.sec.gather(i.buf)
		i.sec.shim.direct = false
	} else {
		i.n, i.err = receive(int(fd), i.buf)
	}
	_, nothing := i.err.(dry)
	if nothing {
		i.err = nil
	}
	if i.n == 0 {
		i.Release()
	}
	return i.n > 0 || !nothing
}

// receive reads from a socket what there is, as a net.Conn would.
func receive(fd int, b []byte) (int, error) {
	for {
		n, err := recv(fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, dry{}
		case err != nil:
			return 0, fmt.Errorf("read: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// hold keeps what is written, so that it goes out as one piece with flush.
func (s *shim) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.n = sealed.Get().(*[sealedSize]byte), 0
}

// flush sends what was held.
func (s *shim) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.push()
	sealed.Put(s.held)
	s.held = nil
	return err
}

// send writes records to the socket. Those that crypto/tls answers its peer with come from the reading goroutine, and keep their place.
func (s *shim) send(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return s.tcp.Write(b)
	}
	if s.n+len(b) > len(s.held) {
		if err := s.push(); err != nil {
			return 0, err
		}
	}
	s.n += copy(s.held[s.n:], b)
	return len(b), nil
}

// push empties held. mu is locked.
func (s *shim) push() error {
	_, err := s.tcp.Write(s.held[:s.n])
	s.n = 0
	return err
}
