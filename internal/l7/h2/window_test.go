package h2

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// sender is a peer that sends one body as fast as its windows allow.
type sender struct {
	stream, conn int
	p            *peer
}

// fill writes all that may be sent now, up to a number of bytes, and returns how much that was.
func (s *sender) fill(most int) (n int) {
	for n < most {
		k := min(s.stream, s.conn, maxFrame, most-n)
		if k <= 0 {
			break
		}
		s.p.frame(frameData, 0, 1, strings.Repeat("x", k))
		s.stream, s.conn, n = s.stream-k, s.conn-k, n+k
	}
	return n
}

// hear takes the credit among what a server has written.
func (s *sender) hear(out []byte) {
	for len(out) >= frameHeaderBytes {
		size := int(out[0])<<16 | int(out[1])<<8 | int(out[2])
		if out[3] == frameWindow {
			n := int(binary.BigEndian.Uint32(out[frameHeaderBytes:]))
			if binary.BigEndian.Uint32(out[5:]) == 0 {
				s.conn += n
			} else {
				s.stream += n
			}
		}
		out = out[frameHeaderBytes+size:]
	}
}

// TestWindowsGrow: on a path of 20 ms a body is not held up by the window for long, and its memory stays bounded. Where there is
// no path to speak of, where the reader is slow, and where the budget is tight, windows stay as they are.
func TestWindowsGrow(t *testing.T) {
	const path = 20 * time.Millisecond
	tight := &exchange.Budget{Limit: 100}
	var other exchange.Account
	other.Open(tight)
	other.Set(51)
	for _, tt := range []struct {
		name         string
		rtt          time.Duration
		perTrip      int // bytes that the reader takes in a round trip
		budget       *exchange.Budget
		stream, conn int // the windows at last
	}{
		{"a fast reader", path, 1 << 30, nil, 4 << 20, 16 << 20},
		{"a reader of 30 MB/s", path, 600 << 10, nil, 1536 << 10, 2 << 20},
		{"a slow reader", path, 32 << 10, nil, 128 << 10, 2 << 20},
		{"a local peer", 50 * time.Microsecond, 1 << 30, nil, 128 << 10, 2 << 20},
		{"an unknown path", 0, 1 << 30, nil, 128 << 10, 2 << 20},
		{"a tight budget", path, 1 << 30, tight, 128 << 10, 2 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w, all := held(t, ServerConfig{Budget: tt.budget})
			w.RTT = tt.rtt
			peer := &sender{stream: 128 << 10, conn: 2 << 20, p: newPeer(true).post(1)}
			w.Feed(s, peer.p.Bytes(), 1<<20)
			x := (*all)[0]
			up := &counter{}
			x.Bind(up)
			w.Out = nil
			waiting := 0
			for range 200 {
				peer.p.Reset()
				waiting += peer.fill(64 << 20)
				w.Feed(s, peer.p.Bytes(), 1<<20)
				up.Log.Reset()
				// The reader takes what it takes in four parts, and its credit goes back meanwhile.
				for range 4 {
					w.Sched.Time = w.Sched.Time.Add(max(tt.rtt, time.Microsecond) / 4)
					k := min(waiting, max(tt.perTrip/4, 1))
					waiting -= k
					s.Consumed(x, k)
				}
				peer.hear(w.Out)
				w.Out = nil
			}
			got, conn := int(s.streams[1].recv.size), int(s.recv.size)
			if got != tt.stream || conn > tt.conn || got >= conn {
				t.Errorf("a window of %d KiB, of %d KiB for the connection; want %d and %d at most", got>>10, conn>>10, tt.stream>>10, tt.conn>>10)
			}
		})
	}
}

// TestUnreadStreams: on a connection that many share, streams that nobody reads do not hold up the others; on a client's own
// connection they count against its window.
func TestUnreadStreams(t *testing.T) {
	for _, private := range []bool{true, false} {
		t.Run(fmt.Sprintf("private %v", private), func(t *testing.T) {
			budget := &exchange.Budget{Limit: 1 << 30}
			s, w, all := held(t, ServerConfig{Private: private, Budget: budget})
			p := newPeer(true)
			for i := range uint32(40) { // 5 MiB: more than the connection's window
				p.Write(newPeer(false).post(2*i + 1).Bytes()[frameHeaderBytes:])
			}
			w.Feed(s, p.Bytes(), 1<<20)
			if len(*all) != 40 {
				t.Fatalf("%d requests", len(*all))
			}
			conn := 2 << 20
			sent := 0
			for i := range uint32(40) {
				for k := 0; k < 128<<10 && conn >= maxFrame; k += maxFrame {
					p.Reset()
					p.frame(frameData, 0, 2*i+1, strings.Repeat("x", maxFrame))
					w.Out = nil
					w.Feed(s, p.Bytes(), 1<<20)
					peer := sender{conn: conn - maxFrame}
					peer.hear(w.Out)
					conn, sent = peer.conn, sent+maxFrame
				}
			}
			want := 40 * 128 << 10
			if !private {
				want = 2 << 20
			}
			if sent != want {
				t.Errorf("%d KiB could be sent, want %d", sent>>10, want>>10)
			}
			if int(budget.Used()) != sent {
				t.Errorf("%d bytes are counted as kept, %d were sent", budget.Used(), sent)
			}
			s.Closed(nil)
			if n := budget.Used(); n != 0 {
				t.Errorf("%d bytes are counted behind the end", n)
			}
		})
	}
}

// TestBudgetOfStreams: when it is short, what would hold more than its share is given up, and later what stands still.
func TestBudgetOfStreams(t *testing.T) {
	refused := 0
	budget := &exchange.Budget{Limit: 150 << 10, Refused: func() { refused++ }}
	s, w, all := held(t, ServerConfig{Budget: budget})
	p := newPeer(true)
	p.frame(frameSettings, 0, 0, setting(setWindow, 0))
	for i := range uint32(4) {
		p.get(2*i + 1)
	}
	w.Feed(s, p.Bytes(), 1<<20)
	up := &counter{}
	for _, x := range *all {
		x.Bind(up)
		x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, false)
	}
	for _, x := range (*all)[:2] {
		x.ResponseData(make([]byte, 60<<10), false)
	}
	if got := taken(t, w); !strings.Contains(got, "RST 3 11") || strings.Contains(got, "RST 1") || refused != 1 {
		t.Fatalf("%d refused: %q", refused, got)
	}
	if n := budget.Used(); n != 60<<10 {
		t.Errorf("%d bytes are kept", n)
	}
	(*all)[2].ResponseData(make([]byte, 10<<10), false)
	look := func() {
		w.Sched.Time = w.Sched.Time.Add(time.Second)
		s.Shed()
		s.Shed() // as for another budget: it counts as one
	}
	for range 2 {
		look()
	}
	p.Reset()
	p.frame(frameWindow, 0, 5, "\x00\x00\x08\x00") // a reader, if a slow one
	w.Feed(s, p.Bytes(), 1<<20)
	if got := taken(t, w); strings.Contains(got, "RST") {
		t.Fatalf("given up too early: %q", got)
	}
	look()
	if got := taken(t, w); !strings.Contains(got, "RST 1 11") || strings.Contains(got, "RST 5") {
		t.Errorf("what stands still: %q", got)
	}
	(*all)[3].ResponseData([]byte("x"), true)
	if n := budget.Used(); n != 8<<10+1 {
		t.Errorf("%d bytes are kept at last", n)
	}
}
