package loop

import "testing"

// TestSparesAreBounded gives back buffers that have all grown, as they do after some time under load.
func TestSparesAreBounded(t *testing.T) {
	var l Loop
	var held int
	for range 2 * spares {
		l.give(make([]byte, 0, maxBuffer))
	}
	for _, b := range l.spare {
		held += cap(b)
	}
	if held > spareBytes || held < spareBytes-maxBuffer || held != l.spared {
		t.Errorf("%d bytes in %d spares, counted as %d, want %d", held, len(l.spare), l.spared, spareBytes)
	}
	for range len(l.spare) {
		l.take()
	}
	if l.spared != 0 || cap(l.take()) != bufferSize {
		t.Errorf("%d bytes are left when all were taken", l.spared)
	}
	for range 2 * spares {
		l.give(make([]byte, 0, bufferSize))
	}
	if len(l.spare) != spares {
		t.Errorf("%d small spares, want %d", len(l.spare), spares)
	}
}
