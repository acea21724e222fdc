package exchange

const (
	// smallest is what a buffer begins with; those up to largest are used again.
	smallest = 4 << 10
	largest  = HighWater + 64<<10
	// spareBytes is how much the spares of one size may hold together.
	spareBytes = 1 << 20
)

// sizes of buffers: what is between two begins with the larger one. A large one is a Transport's output at its HighWater.
var sizes = [...]int{smallest, 4 * smallest, 20 * smallest, largest}

// Buffers are empty buffers that are used again. They are a loop's: one goroutine uses them. The zero value is ready.
type Buffers struct {
	spare [len(sizes)][][]byte
}

// Append appends b to buf, whose room is changed for a larger one if need be. buf is the caller's no more.
func (p *Buffers) Append(buf, b []byte) []byte {
	need := len(buf) + len(b)
	if need <= cap(buf) {
		return append(buf, b...)
	}
	class := classOf(max(need, 2*cap(buf)))
	if class == len(sizes) {
		grown := append(buf, b...)
		p.Give(buf)
		return grown
	}
	grown := append(append(p.take(class), buf...), b...)
	p.Give(buf)
	return grown
}

func (p *Buffers) take(class int) []byte {
	free := p.spare[class]
	n := len(free)
	if n == 0 {
		return make([]byte, 0, sizes[class])
	}
	b := free[n-1]
	free[n-1] = nil
	p.spare[class] = free[:n-1]
	return b
}

// Give takes a buffer back that nobody uses any more. One that did not come from here is left to the collector.
func (p *Buffers) Give(b []byte) {
	class := classOf(cap(b))
	if class == len(sizes) || cap(b) != sizes[class] || (len(p.spare[class])+1)*sizes[class] > spareBytes {
		return
	}
	p.spare[class] = append(p.spare[class], b[:0])
}

// classOf is the smallest size that n bytes fit in; len(sizes) if there is none.
func classOf(n int) int {
	for i, size := range sizes {
		if n <= size {
			return i
		}
	}
	return len(sizes)
}
