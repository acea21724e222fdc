package exchange

import "time"

// Limits bound a connection in every dimension. A zero field means its default.
type Limits struct {
	HeadBytes   int           // a head, as HTTP/2 counts it or as HTTP/1 bytes: 64 KiB
	HeadFields  int           // fields of a head or of trailers: 128
	LineBytes   int           // an HTTP/1 request line: 16 KiB
	Interim     int           // 1xx responses of one exchange: 32
	Body        int           // body bytes that an HTTP/1 side may have delivered without credit: 64 KiB
	Drain       int           // body bytes that are read and dropped after an early response: 256 KiB
	Linger      time.Duration // how long an unfinished request is taken after its response: 10 s
	Farewell    time.Duration // how long a drained HTTP/1 client that is idle may still send a request: 5 s
	HeadTimeout time.Duration // from the first byte of a head to its last: 30 s

	Streams      uint32 // concurrent streams that an HTTP/2 side accepts: 250
	StreamWindow int32  // receive window of an HTTP/2 stream: 128 KiB
	ConnWindow   int32  // receive window of an HTTP/2 connection, never equal to a stream's: 2 MiB
	StreamGrown  int32  // to which a stream's window grows on a long path: 4 MiB
	ConnGrown    int32  // to which a connection's does: 16 MiB
	Block        int    // a compressed header block, CONTINUATIONs included: 64 KiB
	Fragments    int    // CONTINUATION frames of one block: 16
	Resets       int    // streams reset by the peer or for its errors, each second: 1000
	Controls     int    // PING, SETTINGS, PRIORITY, empty DATA and unknown frames, each second: 1000
	Backlog      int    // bytes of control frames that the peer does not read: 1 MiB above HighWater
}

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	fill(&l.HeadBytes, 64<<10)
	fill(&l.HeadFields, 128)
	fill(&l.LineBytes, 16<<10)
	fill(&l.Interim, 32)
	fill(&l.Body, 64<<10)
	fill(&l.Drain, 256<<10)
	fill(&l.Linger, 10*time.Second)
	fill(&l.Farewell, 5*time.Second)
	fill(&l.HeadTimeout, 30*time.Second)
	fill(&l.Streams, 250)
	fill(&l.StreamWindow, 128<<10)
	fill(&l.ConnWindow, 2<<20)
	fill(&l.StreamGrown, 4<<20)
	fill(&l.ConnGrown, 16<<20)
	fill(&l.Block, 64<<10)
	fill(&l.Fragments, 16)
	fill(&l.Resets, 1000)
	fill(&l.Controls, 1000)
	fill(&l.Backlog, 1<<20)
	if l.ConnWindow <= l.StreamWindow {
		l.ConnWindow = 2 * l.StreamWindow
	}
	return l
}

func fill[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
