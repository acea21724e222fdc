// Package hpack turns the fields of HTTP/2 into header blocks and back (RFC 7541).
//
// Promises:
//  1. A string that comes again is not allocated again: fields of both tables are handed out as they are, and
//     literals go through a Memo of bounded size. Where all fields are such, neither side allocates.
//  2. Every string that the Decoder hands out is its own allocation, so that keeping one keeps nothing else. The
//     Encoder keeps copies of what is in its table, never a string of its caller.
//  3. Whatever the peer sends, a block costs at most memory in proportion to its own length, and what it leaves behind is
//     bounded by the table's size and the Memo's. The caller bounds a block's length.
//  4. A list of fields that is too large is reported, not refused: the tables go on as the peer's do. A block against the
//     rules is refused, and so is every block after it.
//  5. A field that came as never indexed says so (Field.Sensitive), goes on as such. Its value, and that of credentials,
//     is in no Memo: its own connection remembers the last one.
//  6. A connection that was not used yet has no table.
//
// Nothing here locks: an Encoder, a Decoder and the decoders that share a Memo belong to one loop.
package hpack

// DefaultTable is the size in bytes of a dynamic table until a setting says something else.
const DefaultTable = 4096

// overhead is what an entry counts for beside its strings (RFC 7541 section 4.1).
const overhead = 32

// Error says which step of decoding failed. All are COMPRESSION_ERROR of a connection.
type Error string

func (e Error) Error() string { return string(e) }

const (
	errCut         Error = "read header block: cut short"
	errInteger     Error = "read integer: too large"
	errIndex       Error = "look up field: no such index"
	errCode        Error = "decode string: no such Huffman code"
	errPadding     Error = "decode string: wrong Huffman padding"
	errUpdateLate  Error = "resize table: not at the start of the block"
	errUpdateMany  Error = "resize table: more than two updates in a block"
	errUpdateLarge Error = "resize table: above the setting"
	errUpdateNone  Error = "resize table: update is missing after a smaller setting"
)
