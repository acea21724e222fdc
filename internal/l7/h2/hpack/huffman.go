package hpack

import "slices"

// The code of RFC 7541 appendix B is canonical: symbols are numbered by the length of their codes and then by value, so
// that the lengths alone give all codes.

// codeLengths has the number of bits of each byte's code.
var codeLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	endOfString = 256 // a symbol that must not occur
	endLength   = 30
	fastBits    = 10
)

// huffman is the code in the forms that reading needs.
type huffman struct {
	// fast has, by the next fastBits bits, symbol<<4 | length of a code that is not longer than they.
	fast [1 << fastBits]uint16
	// For longer codes, by length: beyond is the first 32 bits that are past its codes, shift what has to be
	// added to a code to find its symbol in sorted.
	beyond [endLength + 1]uint64
	shift  [endLength + 1]int
	sorted [257]uint16
}

var code = newHuffman()

func newHuffman() *huffman {
	h := &huffman{}
	next, n := uint32(0), 0
	for length := 1; length <= endLength; length++ {
		next <<= 1
		h.shift[length] = n - int(next)
		for s := range 257 {
			if s == endOfString && length != endLength || s < endOfString && int(codeLengths[s]) != length {
				continue
			}
			h.sorted[n] = uint16(s)
			n++
			if length <= fastBits {
				first := next << (fastBits - length)
				for i := range uint32(1) << (fastBits - length) {
					h.fast[first+i] = uint16(s<<4 | length)
				}
			}
			next++
		}
		h.beyond[length] = uint64(next) << (32 - length)
	}
	return h
}

// appendDecoded appends what src stands for to dst.
func appendDecoded(dst, src []byte) ([]byte, error) {
	// The shortest code has five bits.
	dst = slices.Grow(dst, len(src)*8/5+1)
	out, at := dst[:cap(dst)], len(dst)
	var bits uint64 // the next n bits, on the left, and zeros
	n := 0
	for h := code; ; {
		if n < 32 {
			if len(src) >= 4 {
				w := uint32(src[0])<<24 | uint32(src[1])<<16 | uint32(src[2])<<8 | uint32(src[3])
				bits |= uint64(w) << (32 - n)
				src, n = src[4:], n+32
			} else {
				for _, c := range src {
					bits |= uint64(c) << (56 - n)
					n += 8
				}
				src = nil
				if n < endLength {
					return appendRest(out[:at], bits, n)
				}
			}
		}
		if f := h.fast[bits>>(64-fastBits)]; f != 0 {
			out[at] = byte(f >> 4)
			at++
			bits <<= f & 15
			n -= int(f & 15)
			continue
		}
		s, length := h.long(bits >> 32)
		if s == endOfString {
			return dst, errCode
		}
		out[at] = byte(s)
		at++
		bits <<= length
		n -= length
	}
}

// appendRest decodes the last bits, fewer than the longest code has. What is no whole code has to be padding:
// less than a byte, of ones only.
func appendRest(dst []byte, bits uint64, n int) ([]byte, error) {
	for n > 0 {
		s, length := 0, 0
		if f := code.fast[bits>>(64-fastBits)]; f != 0 {
			s, length = int(f>>4), int(f&15)
		} else {
			s, length = code.long(bits >> 32)
		}
		if length > n {
			break
		}
		dst = append(dst, byte(s))
		bits <<= length
		n -= length
	}
	if n > 7 || bits != ^(^uint64(0)>>n) {
		return dst, errPadding
	}
	return dst, nil
}

// long finds the symbol of a code that is longer than fastBits at the start of 32 bits.
func (h *huffman) long(next uint64) (symbol, length int) {
	for length = fastBits + 1; length < endLength && next >= h.beyond[length]; {
		length++
	}
	return int(h.sorted[int(next>>(32-length))+h.shift[length]]), length
}
