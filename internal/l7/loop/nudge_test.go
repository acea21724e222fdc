package loop

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNudge is itself what keeps the only processor busy: it gives way and never waits, so that the runtime does not look for events.
// A loop that it has nudged has served them when it is its turn again.
func TestNudge(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	var served atomic.Int32
	e.feed = func(b []byte) (int, error) { served.Add(1); return len(b), nil }
	if err := l.Attach(s, nil, e.start); err != nil {
		t.Fatal(err)
	}
	fd, err := detach(c)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const rounds = 200
	missed := 0
	for n := range int32(rounds) {
		for deadline := time.Now().Add(5 * time.Second); served.Load() != n || !l.idle.parked.Load(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d were served", served.Load(), n)
			}
		}
		if _, err := send(fd, []byte("x")); err != nil {
			t.Fatal(err)
		}
		l.Nudge()
		runtime.Gosched()
		if served.Load() == n {
			missed++
		}
	}
	if missed > rounds/10 {
		t.Errorf("%d of %d times the loop had not come to its turn", missed, rounds)
	}
}
