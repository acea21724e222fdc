package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sizePath is where origins have a body of that size.
func sizePath(bytes int) string { return fmt.Sprintf("/size/%d", bytes) }

// messageFile holds a request of gRPC with a message of that size.
func (s *stage) messageFile(bytes int) string {
	return filepath.Join(s.dir, fmt.Sprintf("message-%d", bytes))
}

// writeBodies writes what is sent and answered.
func (s *stage) writeBodies() error {
	errs := []error{os.WriteFile(s.messageFile(messageSize), message(messageSize), 0o644), os.Mkdir(filepath.Join(s.dir, "size"), 0o755)}
	for _, z := range sizes {
		errs = append(errs, os.WriteFile(s.messageFile(z.bytes), message(z.bytes), 0o644),
			os.WriteFile(filepath.Join(s.dir, sizePath(z.bytes)), []byte(strings.Repeat("x", z.bytes)), 0o644))
	}
	return errors.Join(errs...)
}

// message is a request of gRPC as it lies in the body: not compressed, its length, and a BytesValue that takes so many bytes.
func message(size int) []byte {
	payload := size - 2
	for 1+len(binary.AppendUvarint(nil, uint64(payload)))+payload > size {
		payload--
	}
	var b bytes.Buffer
	b.WriteByte(0)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(size)))
	b.WriteByte(0x0a)
	b.Write(binary.AppendUvarint(nil, uint64(payload)))
	b.WriteString(strings.Repeat("m", payload))
	return b.Bytes()
}
