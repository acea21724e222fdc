package h2

import "encoding/binary"

// Frame types.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
)

// Frame flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings.
const (
	setTableSize     = 1
	setPush          = 2
	setStreams       = 3
	setWindow        = 4
	setFrameSize     = 5
	setHeaderList    = 6
	setConnect       = 8
	defaultWindow    = 65535
	maxWindow        = 1<<31 - 1
	frameHeaderBytes = 9
	maxFrame         = 16384 // what we accept, and the most that we send at once
)

// code is an error code of HTTP/2.
type code uint32

const (
	codeNone        code = 0
	codeProtocol    code = 1
	codeInternal    code = 2
	codeFlow        code = 3
	codeTimeout     code = 4
	codeClosed      code = 5
	codeSize        code = 6
	codeRefused     code = 7
	codeCancel      code = 8
	codeCompression code = 9
	codeConnect     code = 10
	codeCalm        code = 11
	codeSecurity    code = 12
	codeVersion     code = 13
)

// connError ends the connection.
type connError struct {
	code code
	text string
}

func (e *connError) Error() string { return e.text }

func fatal(c code, text string) error { return &connError{c, text} }

// frame is one frame within the bytes that were fed.
type frame struct {
	kind, flags byte
	id          uint32
	payload     []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

func (f *frame) uint32(at int) uint32 { return binary.BigEndian.Uint32(f.payload[at:]) }

// unpad removes padding.
func (f *frame) unpad() error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) < 1 || int(f.payload[0]) > len(f.payload)-1 {
		return fatal(codeProtocol, "padding is longer than its frame")
	}
	f.payload = f.payload[1 : len(f.payload)-int(f.payload[0])]
	return nil
}

// appendFrameHeader writes the nine bytes before a payload.
func appendFrameHeader(b []byte, n int, kind, flags byte, id uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendSetting(b []byte, id uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), v)
}
