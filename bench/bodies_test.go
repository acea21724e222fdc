package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A message has the size that it should, and is what the origin reads.
func TestMessage(t *testing.T) {
	for _, size := range []int{64, messageSize, 1 << 10, 64 << 10} {
		m := message(size)
		if len(m) != frameHead+size || m[0] != 0 || binary.BigEndian.Uint32(m[1:]) != uint32(size) {
			t.Errorf("%d bytes, want %d: % x", len(m), frameHead+size, m[:10])
		}
		var v wrapperspb.BytesValue
		if err := proto.Unmarshal(m[frameHead:], &v); err != nil || !bytes.Equal(bytes.Trim(v.Value, "m"), nil) {
			t.Errorf("%d: %v, %d bytes", size, err, len(v.Value))
		}
	}
}
