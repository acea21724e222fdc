package l7

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// TestRogueNodes: a node that floods is cut off like a client, though it may reset more; clients of other nodes are served meanwhile.
func TestRogueNodes(t *testing.T) {
	// A node may reset 25 times as much. Low enough to be met by a slow machine, too.
	low := func(c *Config) { c.Limits.HTTP.Controls, c.Limits.HTTP.Resets = 200, 4 }
	s := besiege(t, true, low, nil)
	for _, tt := range floods {
		t.Run(tt.name, func(t *testing.T) {
			s.t, s.peak = t, 0
			s.during(true, 48<<20, func() {
				for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
					if got := s.flood(s.rogue(), tt.open, tt.wave, tt.n); got != tt.want {
						t.Errorf("the connection ended with %q, want %q (%s)", got, tt.want, tt.why)
					}
				}
			})
		})
	}
}

// TestManyWhoCancel: clients of a pod, each below its limit, together reset more than one may. What carries them to the other node lives.
func TestManyWhoCancel(t *testing.T) {
	const clients, each = 12, 90
	s := besiege(t, true, func(c *Config) { c.Loops, c.Limits.HTTP.Resets = 1, each+10 }, nil)
	s.during(true, 32<<20, func() {
		before := s.shakes()
		var group sync.WaitGroup
		for range clients {
			f := &frames{c: dial(t, s.out)}
			in := newScript()
			for i := range each {
				id := uint32(2*i + 1)
				in.frame(1, 5, id, in.fields(with("GET", nil)...)).frame(3, 0, id, "\x00\x00\x00\x08")
			}
			last := uint32(2*each + 1)
			in.frame(1, 5, last, in.fields(with("GET", nil)...))
			group.Go(func() {
				f.c.Write(in.out)
				if got, body := heard(f, hpack.NewDecoder(4096, nil), last); got != "200" || body != "served" {
					t.Errorf("behind what was cancelled: %q %q", got, body)
				}
			})
		}
		group.Wait()
		if n := s.shakes() - before; n != 0 {
			t.Errorf("%d connections to the other node were made anew", n)
		}
	})
}

// shakes is how many handshakes the attacker's node has made.
func (s *siege) shakes() int {
	s.rec.mu.Lock()
	defer s.rec.mu.Unlock()
	return len(s.rec.handshakes)
}
