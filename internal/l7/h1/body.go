package h1

import (
	"bytes"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// kind is how a body's end is found.
type kind uint8

const (
	none kind = iota
	counted
	chunks
	untilClose
)

// chunk states.
const (
	chunkSize = iota
	chunkData
	chunkCRLF
	chunkTrailers
)

// maxChunkLine bounds a chunk's size line; maxExtensions bounds what all of a body's size lines hold beyond sizes.
const (
	maxChunkLine  = 256
	maxExtensions = 16 << 10
)

// body reads one message body from bytes that come in pieces.
type body struct {
	kind     kind
	state    int
	left     int64
	extra    int
	scan     scanner
	trailers []exchange.Field
}

// next takes bytes from the front of b: data is body content within b, n is how many bytes are used up. Neither
// data nor n means that more bytes are needed. done says that the body has ended.
func (d *body) next(b []byte, lim *exchange.Limits) (data []byte, n int, done bool, err error) {
	switch d.kind {
	case counted:
		data = b[:min(int64(len(b)), d.left)]
		d.left -= int64(len(data))
		return data, len(data), d.left == 0, nil
	case untilClose:
		return b, len(b), false, nil
	case chunks:
		return d.chunk(b, lim)
	}
	return nil, 0, true, nil
}

func (d *body) chunk(b []byte, lim *exchange.Limits) (data []byte, n int, done bool, err error) {
	switch d.state {
	case chunkSize:
		n, err = d.size(b)
		return nil, n, false, err
	case chunkData:
		data = b[:min(int64(len(b)), d.left)]
		d.left -= int64(len(data))
		if d.left == 0 {
			d.state = chunkCRLF
		}
		return data, len(data), false, nil
	case chunkCRLF:
		if b[0] != '\r' || len(b) > 1 && b[1] != '\n' {
			return nil, 0, false, errChunk
		}
		if len(b) < 2 {
			return nil, 0, false, nil
		}
		d.state = chunkSize
		return nil, 2, false, nil
	}
	end, err := d.scan.scan(b, lim)
	if end == 0 || err != nil {
		return nil, 0, false, err
	}
	d.trailers, err = parseTrailers(b[:end])
	return nil, end, true, err
}

// size reads a chunk's size line; extensions are dropped.
func (d *body) size(b []byte) (int, error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 && len(b) > maxChunkLine || i > maxChunkLine {
		return 0, errChunk
	}
	if i < 0 {
		return 0, nil
	}
	if i < 2 || b[i-1] != '\r' {
		return 0, errChunk
	}
	digits, size := 0, int64(0)
	for digits < i-1 && hex(b[digits]) >= 0 {
		size = size<<4 | int64(hex(b[digits]))
		digits++
	}
	ext := b[digits : i-1]
	d.extra += len(ext)
	if digits == 0 || digits > 15 || d.extra > maxExtensions || !validExtension(string(ext)) {
		return 0, errChunk
	}
	d.left, d.state = size, chunkData
	if size == 0 {
		d.state, d.scan = chunkTrailers, scanner{lines: 1} // as if behind a request line, which has a limit of its own
	}
	return i + 1, nil
}

func validExtension(s string) bool {
	return s == "" || s[0] == ';' && exchange.ValidValue(s)
}

// parseTrailers reads the trailer section. Fields that frame, route or belong to the connection do not travel on.
func parseTrailers(block []byte) ([]exchange.Field, error) {
	if len(block) == 2 {
		return nil, nil
	}
	var fields []exchange.Field
	for len(block) > len(crlf) {
		var text []byte
		text, block = cutLine(block)
		f, err := parseField(string(text))
		if err != nil {
			return nil, err
		}
		if !forbiddenTrailer(f.Name) {
			fields = append(fields, f)
		}
	}
	return fields, nil
}

func forbiddenTrailer(name string) bool {
	switch strings.ToLower(name) {
	case "content-length", "host", "te", "trailer", "authorization", "content-encoding", "content-type", "content-range":
		return true
	}
	about := exchange.About(name)
	return about.HopByHop() || about == exchange.AboutUs
}

func without(fields []exchange.Field, name string) []exchange.Field {
	kept := fields[:0]
	for _, f := range fields {
		if !strings.EqualFold(f.Name, name) {
			kept = append(kept, f)
		}
	}
	return kept
}
