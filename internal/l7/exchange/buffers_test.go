package exchange

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestBuffers: what is appended is there, buffers come again, and only so many are kept.
func TestBuffers(t *testing.T) {
	var p Buffers
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var buf, want []byte
		for len(want) < 400<<10 {
			b := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(30<<10))
			buf, want = p.Append(buf, b), append(want, b...)
			if !bytes.Equal(buf, want) {
				t.Fatalf("%d bytes are not those that were appended", len(want))
			}
		}
		p.Give(buf)
	}
	for class, size := range sizes {
		for range 2 * spareBytes / size {
			p.Give(make([]byte, 0, size))
		}
		if n := len(p.spare[class]); n != spareBytes/size {
			t.Errorf("%d spares of %d bytes", n, size)
		}
	}
	p.Give(make([]byte, 0, 5000))
	p.Give(nil)
}

// TestBuffersMakeNoGarbage: a body of 64 KiB in pieces, again and again.
func TestBuffersMakeNoGarbage(t *testing.T) {
	var p Buffers
	piece := make([]byte, 16<<10)
	if n := testing.AllocsPerRun(100, func() {
		var buf []byte
		for range 5 {
			buf = p.Append(buf, piece)
		}
		p.Give(buf)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
