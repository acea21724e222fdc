package h2

import (
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/h2/hpack"
)

// keptStreams bounds the streams that a loop keeps for those to come.
const keptStreams = 1024

// Shared is what all connections of a loop have in common: strings of header blocks, and streams that have ended, to be used
// again. The zero value is ready. Whoever makes one calls Turn behind each turn of the loop.
type Shared struct {
	memo  hpack.Memo
	queue exchange.Buffers
	free  []*stream
	ended []*stream // in this turn
}

// Turn makes the streams that have ended ready for others. No call into a connection may be under way.
func (s *Shared) Turn() {
	for i, st := range s.ended {
		s.ended[i] = nil
		// One that still stands in its connection's queue, or that is still owed credit, is left to its fate.
		if st.listed || st.unpaid > 0 || len(s.free) == keptStreams {
			continue
		}
		*st = stream{}
		s.free = append(s.free, st)
	}
	s.ended = s.ended[:0]
}

func (s *Shared) take() *stream {
	n := len(s.free)
	if n == 0 {
		return &stream{}
	}
	st := s.free[n-1]
	s.free[n-1] = nil
	s.free = s.free[:n-1]
	return st
}
