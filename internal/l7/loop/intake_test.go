package loop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// secured is a pair of connections with TLS between them, or without.
func secured(t *testing.T, secure bool) (client, server net.Conn) {
	t.Helper()
	c, s := pair(t)
	if !secure {
		return c, s
	}
	serverCfg, clientCfg := tlsConfigs(t)
	done := make(chan *Secure)
	go func() {
		sec, err := Server(context.Background(), s, nil, serverCfg)
		if err != nil {
			t.Error(err)
		}
		done <- sec
	}()
	cc, err := Client(context.Background(), c, clientCfg)
	sc := <-done
	if err != nil || t.Failed() {
		t.Fatal(err)
	}
	return cc, sc
}

func both(t *testing.T, f func(t *testing.T, secure bool)) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) { f(t, secure) })
	}
}

func intake(t *testing.T, c net.Conn) *Intake {
	t.Helper()
	i, err := NewIntake(c, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func closeWrite(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }

// TestIntake passes all sizes on in both directions at once, with a half-close behind them.
func TestIntake(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		for _, size := range []int{0, 1, 1000, 70000, 3 << 20} {
			a, b := secured(t, secure)
			c, d := secured(t, secure)
			errs := make(chan error, 2)
			go func() { errs <- carry(c, b) }()
			go func() { errs <- carry(b, c) }()
			want := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
			for _, from := range []net.Conn{a, d} {
				go func() {
					from.Write(want)
					closeWrite(from)
				}()
			}
			for _, to := range []net.Conn{d, a} {
				if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes of %d, %v", len(got), size, err)
				}
			}
			for range 2 {
				if err := <-errs; err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		}
	})
}

// carry is one direction of a relay.
func carry(dst, src net.Conn) error {
	in, err := NewIntake(src, func() bool { return false })
	for err == nil {
		var got []byte
		if got, err = in.Read(); len(got) > 0 {
			if _, werr := in.Pass(dst); werr != nil {
				return werr
			}
		}
	}
	if err != io.EOF {
		return err
	}
	return closeWrite(dst)
}

// TestIntakeGathers: all that has come is read at once, and goes out by one call.
func TestIntakeGathers(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		a, b := secured(t, secure)
		c, d := secured(t, secure)
		for i := range 4 { // the first ones in small records
			tcpOf(b).SetReadBuffer(1 << 20)
			tcpOf(c).SetWriteBuffer(1 << 20)
			want := bytes.Repeat([]byte{byte(i)}, pieceSize)
			if _, err := a.Write(want); err != nil {
				t.Fatal(err)
			}
			arrived(t, b, pieceSize)
			in := intake(t, b)
			got, err := in.Read()
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
			runtime.LockOSThread()
			before := writes(t)
			n, err := in.Pass(c)
			after := writes(t)
			runtime.UnlockOSThread()
			if n != pieceSize || err != nil || after-before != 1 {
				t.Errorf("passed %d bytes with %d calls, %v", n, after-before, err)
			}
			if _, err := io.ReadFull(d, make([]byte, pieceSize)); err != nil {
				t.Error(err)
			}
		}
	})
}

// arrived waits until the kernel has at least n bytes for c.
func arrived(t *testing.T, c net.Conn, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		raw, err := tcpOf(c).SyscallConn()
		have := 0
		if err == nil {
			err = raw.Control(func(fd uintptr) { have, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d bytes of %d have come, %v", have, n, err)
		}
		if have >= n {
			return
		}
		time.Sleep(time.Millisecond) // between polls
	}
}

func tcpOf(c net.Conn) *net.TCPConn {
	if s, ok := c.(*Secure); ok {
		return s.TCP()
	}
	return c.(*net.TCPConn)
}

// writes is how many writing system calls this thread has made.
func writes(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "syscw: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIntakeWaitsWithoutABuffer has connections wait that have just carried much.
func TestIntakeWaitsWithoutABuffer(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		const conns = 100
		ceiling := int64(8 << 10)
		if secure {
			ceiling += 64 << 10 // what crypto/tls keeps
		}
		var ends []net.Conn
		group := make(chan error, conns)
		defer func() {
			for _, c := range ends {
				c.Close()
			}
			for range conns {
				if err := <-group; err != nil {
					t.Error(err)
				}
			}
		}()
		before := inUse()
		passed := make(chan struct{})
		for range conns {
			a, b := secured(t, secure)
			go func() { group <- consume(b, 10*pieceSize, passed) }()
			ends = append(ends, tcpOf(a))
			if _, err := a.Write(make([]byte, 10*pieceSize)); err != nil {
				t.Fatal(err)
			}
			<-passed
		}
		if each := (inUse() - before) / conns; each > ceiling {
			t.Errorf("a connection that waits has %d bytes, want at most %d", each, ceiling)
		}
	})
}

// consume reads to the end, and tells when it has had n bytes.
func consume(c net.Conn, n int, had chan<- struct{}) error {
	in, err := NewIntake(c, func() bool { return false })
	for err == nil {
		var got []byte
		got, err = in.Read()
		if n -= len(got); n <= 0 && len(got) > 0 {
			had <- struct{}{}
		}
		in.Release()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// inUse is what is on the heap when the pools are empty.
func inUse() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// TestIntakeEnds: what ends a wait is told as by a net.Conn.
func TestIntakeEnds(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		for name, tt := range map[string]struct {
			end  func(near, far net.Conn)
			want error
		}{
			"deadline": {func(near, _ net.Conn) { near.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
			"reset":    {func(_, far net.Conn) { tcpOf(far).SetLinger(0); tcpOf(far).Close() }, syscall.ECONNRESET},
			"close":    {func(near, _ net.Conn) { tcpOf(near).Close() }, net.ErrClosed},
			"end":      {func(_, far net.Conn) { closeWrite(far) }, io.EOF},
		} {
			a, b := secured(t, secure)
			in := intake(t, b)
			got := make(chan error, 1)
			go func() {
				_, err := in.Read()
				got <- err
			}()
			tt.end(b, a)
			if err := <-got; !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", name, err, tt.want)
			}
		}
	})
}

// TestTruncatedIntake: the end in the middle of a record is none.
func TestTruncatedIntake(t *testing.T) {
	a, b := secured(t, true)
	in := intake(t, b)
	a.Write([]byte("x"))
	if got, err := in.Read(); err != nil || string(got) != "x" {
		t.Fatalf("%q, %v", got, err)
	}
	in.Release()
	raw := tcpOf(a)
	raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
	raw.CloseWrite()
	if _, err := in.Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

// TestAnswersKeepTheirPlace: the answer to a change of keys, which the reading goroutine writes, keeps its place among the records of a piece.
func TestAnswersKeepTheirPlace(t *testing.T) {
	a, b := secured(t, true)
	sec := b.(*Secure)
	sec.shim.hold()
	sec.shim.Write([]byte("one "))
	done := make(chan struct{})
	go func() { // as the reading goroutine does
		sec.shim.Write([]byte("two "))
		close(done)
	}()
	<-done
	sec.shim.Write(bytes.Repeat([]byte("x"), sealedSize))
	if err := sec.shim.flush(); err != nil {
		t.Fatal(err)
	}
	sec.shim.Write([]byte("end"))
	got := make([]byte, 8+sealedSize+3)
	if _, err := io.ReadFull(tcpOf(a), got); err != nil || string(got[:9]) != "one two x" || string(got[len(got)-4:]) != "xend" {
		t.Errorf("%q ... %q, %v", got[:9], got[len(got)-4:], err)
	}
}
