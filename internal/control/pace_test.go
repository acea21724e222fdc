package control

import (
	"testing"
	"time"
)

// TestPace: a lone change is followed by a state at once, changes without end by one in a minute.
func TestPace(t *testing.T) {
	p := pace{first: time.Second, most: time.Minute}
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		got := p.wait(now)
		if got != want*time.Second {
			t.Errorf("wait %d: %v, want %ds", i, got, want)
		}
		now = now.Add(got)
	}
	if got := p.wait(now.Add(2 * time.Minute)); got != time.Second {
		t.Errorf("after a quiet time: %v", got)
	}
}

// TestTheLongestWaitGrowsWithTheState: a proxy of a small mesh starts from what was true two seconds ago.
func TestTheLongestWaitGrowsWithTheState(t *testing.T) {
	c := NewDiscoverClient(DiscoverConfig{})
	for size, want := range map[int]time.Duration{0: 2 * time.Second, 100 << 10: 2 * time.Second, 1 << 20: 8 * time.Second, 64 << 20: time.Minute} {
		state := make([]byte, size)
		c.state.Store(&state)
		if got := c.longest(); got != want {
			t.Errorf("for a state of %d bytes: %v, want %v", size, got, want)
		}
	}
}
