package hpack

// longest is how many bytes an integer may have behind its prefix. Four carry 28 bits, more than any block is long.
const longest = 4

// readInteger reads an integer whose first byte shares its place with other bits (RFC 7541 section 5.1), and returns
// what follows it. b is not empty.
func readInteger(b []byte, prefix uint) (int, []byte, error) {
	limit := 1<<prefix - 1
	v := int(b[0]) & limit
	if v < limit {
		return v, b[1:], nil
	}
	for i := 1; i < len(b); i++ {
		if i > longest {
			return 0, nil, errInteger
		}
		v += int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return v, b[i+1:], nil
		}
	}
	return 0, nil, errCut
}

// appendInteger writes v with a prefix of that many bits; the other bits of the first byte are those of first.
func appendInteger(dst []byte, first byte, prefix uint, v int) []byte {
	limit := 1<<prefix - 1
	if v < limit {
		return append(dst, first|byte(v))
	}
	dst = append(dst, first|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}
