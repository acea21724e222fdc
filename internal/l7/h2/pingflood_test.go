package h2

import "testing"

// TestPingsBesideBodies: clients of gRPC measure the path with a PING for each piece of a body, thousands in a second. They are no
// flood; those beside nothing are, and a long body lays up an excuse for only so many.
func TestPingsBesideBodies(t *testing.T) {
	ping := func(p *peer, n int) {
		for range n {
			p.frame(framePing, 0, 0, "12345678")
		}
	}
	for _, tt := range []struct {
		name   string
		pieces int // of a body
		each   int // PINGs behind each
		behind int // PINGs behind all
		flood  bool
	}{
		{"one for each piece", 5000, 1, 0, false},
		{"many for each piece", 1000, 4, 0, true},
		{"without a body", 0, 0, 1001, true},
		{"laid up", 10_000, 0, maxExcused + 990, false},
		{"more than can be laid up", 10_000, 0, maxExcused + 1010, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w, all := held(t, ServerConfig{})
			p := newPeer(true).post(1)
			w.Feed(s, p.Bytes(), 1<<20)
			x := (*all)[0]
			x.Bind(&counter{})
			for range tt.pieces {
				p.Reset()
				p.frame(frameData, 0, 1, "x")
				ping(p, tt.each)
				w.Feed(s, p.Bytes(), 1<<20)
				s.Consumed(x, 1)
			}
			p.Reset()
			ping(p, tt.behind)
			w.Feed(s, p.Bytes(), 1<<20)
			if w.Ended != tt.flood {
				t.Errorf("taken for a flood: %v", w.Ended)
			}
		})
	}
}
