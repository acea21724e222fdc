package socket

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var discard = slog.New(slog.DiscardHandler)

// hostile connects as a proxy that has been taken over: it greets and then does as it likes.
func hostile(t *testing.T, path string, greeting bool) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Net: "unixpacket", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if greeting {
		if _, err := c.Write(encodeHello()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, MaxMessage)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// disconnected waits until the server has ended the connection.
func disconnected(t *testing.T, c *net.UnixConn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, MaxMessage), make([]byte, unix.CmsgSpace(4*maxDescriptors))
	for {
		_, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
		fds, _ := descriptors(oob[:oobn])
		closeAll(fds)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the server keeps the connection")
		}
		if err != nil {
			return // EOF, or a reset where data was unread
		}
	}
}

func encoded(t *testing.T, q request) []byte {
	t.Helper()
	b, err := q.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHostileMessages(t *testing.T) {
	verdicts := encoded(t, request{kind: kindVerdicts, id: 1})
	sockets := encoded(t, request{kind: kindSockets, id: 1, uid: "pod", family: 4, n: 1})
	huge := append([]byte{byte(kindSign), 0, 0, 0, 1}, make([]byte, MaxMessage)...)
	enrolPod, err := (&enrolled{pod: Pod{UID: "pod", Account: testAccount}}).encode()
	if err != nil {
		t.Fatal(err)
	}
	unenrol, err := event{left: &left{uid: "pod"}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := event{certificate: &Certificate{Account: testAccount}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		data []byte
		fds  int
		want string
	}{
		{"unknown type", []byte{200, 0, 0, 0, 1}, 0, UnknownType},
		{"enrol a pod", enrolPod, 0, UnknownType},
		{"end an enrolment", unenrol, 0, UnknownType},
		{"replace a certificate", certificate, 0, UnknownType},
		{"reply to nothing", encodeRefusal(1, ErrNoState), 0, UnknownType},
		{"second greeting", encodeHello(), 0, UnknownType},
		{"one byte", []byte{byte(kindVerdicts)}, 0, Malformed},
		{"truncated", sockets[:len(sockets)-1], 0, Malformed},
		{"bytes left over", append(verdicts[:len(verdicts):len(verdicts)], 0), 0, Malformed},
		{"no sockets", encoded(t, request{kind: kindSockets, id: 1, uid: "pod", family: 4}), 0, Malformed},
		{"65 sockets", encoded(t, request{kind: kindSockets, id: 1, uid: "pod", family: 4, n: 65}), 0, Malformed},
		{"family 5", encoded(t, request{kind: kindSockets, id: 1, uid: "pod", family: 5, n: 1}), 0, Malformed},
		{"oversized", huge, 0, Oversized},
		{"a descriptor too many", verdicts, 1, Descriptors},
		{"all descriptors there can be", sockets, maxDescriptors, Descriptors},
		{"state without a descriptor", encoded(t, request{kind: kindSaveState, id: 1}), 0, Descriptors},
		{"state in two descriptors", encoded(t, request{kind: kindSaveState, id: 1}), 2, Descriptors},
		{"state in a socket", encoded(t, request{kind: kindSaveState, id: 1}), 1, BadState},
		{"sign anything", encoded(t, request{kind: kindSign, id: 1, account: testAccount, content: []byte("arbitrary")}), 0, BadContent},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaksNothing(t)
			s, path := serve(t, &fakeKeeper{})
			well := connect(t, path, newRecorder(t))
			c := hostile(t, path, true)
			var fds []int
			for range test.fds {
				fd, err := newSocket()
				if err != nil {
					t.Fatal(err)
				}
				fds = append(fds, fd)
			}
			_, _, err := c.WriteMsgUnix(test.data, unix.UnixRights(fds...), nil)
			closeAll(fds)
			if err != nil {
				t.Fatal(err)
			}
			disconnected(t, c)
			eventually(t, "the violation is counted", func() bool { return s.Violations()[test.want] == 1 })
			for kind, n := range s.Violations() {
				if kind != test.want && n != 0 {
					t.Errorf("counted %s as well", kind)
				}
			}
			if _, err := well.Verdicts(t.Context()); err != nil {
				t.Errorf("the other proxy: %v", err)
			}
		})
	}
}

func TestHostileGreetings(t *testing.T) {
	other := encodeHello()
	other[len(other)-1]++
	for name, greeting := range map[string][]byte{
		"another version": other,
		"not ours":        []byte("GET / HTTP/1.1\r\n\r\n"),
		"request first":   encoded(t, request{kind: kindVerdicts, id: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			leaksNothing(t)
			k := &fakeKeeper{greeted: func(Handler) { t.Error("events for a peer without a greeting") }}
			s, path := serve(t, k)
			c := hostile(t, path, false)
			if _, err := c.Write(greeting); err != nil {
				t.Fatal(err)
			}
			disconnected(t, c)
			eventually(t, "the violation is counted", func() bool { return s.Violations()[BadGreeting] == 1 })
		})
	}
}

// A proxy that asks and never reads: the keeper neither waits for it nor piles replies up.
func TestHostileFlood(t *testing.T) {
	leaksNothing(t)
	s, path := serve(t, &fakeKeeper{})
	well := connect(t, path, newRecorder(t))
	c := hostile(t, path, true)
	ask := encoded(t, request{kind: kindSockets, id: 1, uid: "pod", family: 4, n: 1})
	for range 100_000 { // it takes some ten thousand: replies that the socket's buffer holds are not in flight
		if _, err := c.Write(ask); err != nil {
			break
		}
	}
	eventually(t, "the flood is counted", func() bool { return s.Violations()[Flood]+s.Violations()[Slow] == 1 })
	if _, err := well.Verdicts(t.Context()); err != nil {
		t.Errorf("the other proxy: %v", err)
	}
}

// A proxy that reads no events is disconnected, and sending to it never waits.
func TestHostileSilence(t *testing.T) {
	leaksNothing(t)
	took := make(chan time.Duration, 1)
	k := &fakeKeeper{greeted: func(h Handler) {
		start := time.Now()
		for range 3000 {
			fd, err := newSocket()
			if err != nil {
				t.Error(err)
				break
			}
			h.Roots("td", make([]byte, 60_000))
			h.Enrolled(Pod{UID: "pod"}, []Listener{{Out, 4, fd}})
		}
		took <- time.Since(start)
		var v *Violation
		if err := h.(*session).reason(); !errors.As(err, &v) || v.Kind != Slow {
			t.Errorf("180 MB unread: %v, want the end of the connection", err) // not only when sending has timed out
		}
	}}
	s, path := serve(t, k)
	hostile(t, path, true)
	if d := <-took; d > 10*time.Second { // 180 MB of copies, and one deadline of a write
		t.Errorf("sending to a proxy that does not read took %v", d)
	}
	eventually(t, "the slow proxy is counted", func() bool { return s.Violations()[Slow] == 1 })
	eventually(t, "it is gone", func() bool { return k.attached() == 0 })
}

func TestOneProxyAndItsSuccessor(t *testing.T) {
	leaksNothing(t)
	k := &fakeKeeper{}
	s, path := serve(t, k)
	first := connect(t, path, newRecorder(t))
	connect(t, path, newRecorder(t))
	eventually(t, "both are attached", func() bool { return k.attached() == 2 })
	if c, err := Dial(t.Context(), path); err == nil {
		if err := c.Run(t.Context(), newRecorder(t)); err == nil {
			t.Error("a third proxy was accepted")
		}
	}
	eventually(t, "the crowd is counted", func() bool { return s.Violations()[Crowd] == 1 })
	first.Close()
	eventually(t, "the first is gone", func() bool { return k.attached() == 1 })
	connect(t, path, newRecorder(t))
	eventually(t, "there is room again", func() bool { return k.attached() == 2 })
}

func TestCredentials(t *testing.T) {
	for name, cfg := range map[string]ServerConfig{
		"another uid":              {UID: os.Getuid() + 1, AllowRoot: true}, // so that the uid alone decides
		"root, though not allowed": {UID: 0},
	} {
		t.Run(name, func(t *testing.T) {
			leaksNothing(t)
			if os.Getuid() != 0 {
				if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
					t.Fatal("needs root")
				}
				t.Skip("needs root, to give the socket away")
			}
			cfg.Path, cfg.Keeper, cfg.Log = t.TempDir()+"/proxy.sock", &fakeKeeper{}, discard
			s := NewServer(cfg)
			start1(t, s)
			c := hostile(t, cfg.Path, false)
			disconnected(t, c)
			eventually(t, "it is counted", func() bool { return s.Violations()[BadCredentials] == 1 })
		})
	}
}

// State has to come in a sealed memfd: nothing else can be read without waiting for its owner.
func TestStateDescriptors(t *testing.T) {
	leaksNothing(t)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	open, err := unix.MemfdCreate("open", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	large, err := unix.MemfdCreate("large", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(large)
	if err := unix.Ftruncate(large, MaxState+1); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(large), unix.F_ADD_SEALS, stateSeals); err != nil {
		t.Fatal(err)
	}
	half, err := unix.MemfdCreate("half", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(half)
	if _, err := unix.FcntlInt(uintptr(half), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		t.Fatal(err)
	}
	for name, fd := range map[string]int{"file": int(file.Fd()), "pipe": int(r.Fd()), "unsealed": open, "writable": half, "large": large} {
		var v *Violation
		if _, err := ReadSealed(fd); !errors.As(err, &v) || v.Kind != BadState {
			t.Errorf("%s: %v, want a violation", name, err)
		}
	}
}

var _ io.Closer = (*Client)(nil)
