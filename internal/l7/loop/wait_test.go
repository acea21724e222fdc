package loop

import (
	"io"
	"testing"
	"time"
)

// TestPace: a loop is busy while events come fast, and not after a pause or when they come slowly.
func TestPace(t *testing.T) {
	now := time.Unix(1e9, 0)
	var p pace
	run := func(each time.Duration, n, events int) bool {
		for range n {
			now = now.Add(each)
			p.saw(events, now)
		}
		return p.busy
	}
	for _, tt := range []struct {
		what   string
		each   time.Duration
		events int
		want   bool
	}{
		{"slow", 100 * time.Microsecond, 1, false},
		{"fast, one at a time", 20 * time.Microsecond, 1, true},
		{"fast, many at a time", 200 * time.Microsecond, 8, true},
		{"many, far apart", 5 * time.Millisecond, 100, false},
	} {
		if got := run(tt.each, 500, tt.events); got != tt.want {
			t.Errorf("%s: busy %t", tt.what, got)
		}
	}
	run(20*time.Microsecond, 500, 1)
	if run(3*time.Millisecond, 1, 1) {
		t.Error("busy after a pause")
	}
}

// TestGathering: a busy loop still answers, and everything that was sent comes back.
func TestGathering(t *testing.T) {
	l := start(t)
	c, s := pair(t)
	e := newEcho()
	l.Attach(s, nil, e.start)
	buf := make([]byte, 1)
	for range 200 {
		done := make(chan struct{})
		l.Post(func() {
			l.pace = pace{busy: true, since: time.Now().Add(time.Hour)} // stays so
			close(done)
		})
		<-done
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
}
