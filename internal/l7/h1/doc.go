// Package h1 speaks HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112) on both sides of the proxy. It is a push parser:
// bytes come by Feed, go out by Transport.Write, and nothing in here starts a goroutine or blocks.
//
// Promises:
//  1. What two parsers could read differently is refused, never repaired: bare LF, obs-fold, white space before a
//     colon, two lengths, a length beside Transfer-Encoding, any coding but chunked.
//  2. A message is written with exactly one framing, chosen here: nothing of the incoming framing is copied. A body
//     that does not fit its declared length ends the connection.
//  3. At most Limits.Body bytes are delivered without credit, and a request that comes behind another waits in the
//     transport until the response before it is out.
//  4. Names and order of fields are kept; hop-by-hop fields and fairlead-* fields are not.
package h1

import "errors"

// fault is a refusal: the status that answers a request, and why.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

var (
	errBare    = &fault{400, "line does not end with CRLF"}
	errFold    = &fault{400, "folded header line"}
	errName    = &fault{400, "malformed field name"}
	errValue   = &fault{400, "malformed field value"}
	errLine    = &fault{400, "malformed request line"}
	errTarget  = &fault{400, "malformed request target"}
	errLong    = &fault{414, "request line too long"}
	errLarge   = &fault{431, "header too large"}
	errOptions = &fault{431, "too many options in Connection"}
	errVersion = &fault{505, "HTTP version not supported"}
	errHost    = &fault{400, "missing, repeated or malformed Host"}
	errLength  = &fault{400, "malformed or repeated Content-Length"}
	errBoth    = &fault{400, "both Transfer-Encoding and Content-Length"}
	errCoding  = &fault{501, "unsupported Transfer-Encoding"}
	errOld     = &fault{400, "Transfer-Encoding in HTTP/1.0"}
	errStatus  = &fault{502, "malformed status line"}
	errChunk   = &fault{400, "malformed chunk"}
	errSlow    = &fault{408, "header took too long"}
	errFull    = &fault{503, "too much is waiting for this pod"}

	errOverrun = errors.New("body is longer than its Content-Length")
	errShort   = errors.New("body is shorter than its Content-Length")

	// ErrBusy says that Send was called on a client that is not idle.
	ErrBusy = errors.New("connection is not idle")
)
