package loop

import (
	"io"
	"testing"
)

// TestNobodyKeepsTheLoop has a protocol that pauses and resumes without end, and another that must be served beside it.
func TestNobodyKeepsTheLoop(t *testing.T) {
	l := start(t)
	c1, s1 := pair(t)
	c2, s2 := pair(t)
	greedy, modest := newEcho(), newEcho()
	greedy.feed = func([]byte) (int, error) {
		greedy.t.Pause()
		greedy.t.Resume()
		return 0, nil
	}
	l.Attach(s1, nil, greedy.start)
	l.Attach(s2, nil, modest.start)
	io.WriteString(c1, "x")
	for range 100 {
		io.WriteString(c2, "y")
		if _, err := io.ReadFull(c2, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}
