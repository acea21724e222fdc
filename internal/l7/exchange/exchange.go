// Package exchange is the seam of the L7 engine: what an HTTP codec sees of the connection below it, and what
// the two codecs of one request see of each other. It knows no HTTP version, no socket and no policy.
//
// Promises:
//  1. Everything that belongs to one loop is called on that loop only, one call at a time: no locks.
//  2. A []byte or Head that is passed in a call is valid during that call only; who needs it longer copies it.
//  3. No call blocks. Bytes that cannot go out are queued, and the side that delivered them is not given
//     their credit (Consumed) before they have been handed on: this is all the back pressure there is.
package exchange

import (
	"slices"
	"time"
)

// Transport is a byte stream that a codec writes to: TCP, or TLS over it.
type Transport interface {
	// Write appends to the output. It is sent when the loop's turn ends, with everything else of that turn.
	Write(b []byte)
	// Pending is how many written bytes the kernel has not taken yet.
	Pending() int
	// Pause and Resume stop and start reading; both are idempotent. After Resume, bytes that Feed had left over are
	// fed again even if none have come behind them, on a later turn: never inside of Resume or of Feed.
	Pause()
	Resume()
	// CloseWrite sends what is pending and then half-closes; Close sends what is pending and closes;
	// Abort closes at once, with a reset where the transport has one.
	CloseWrite()
	Close()
	Abort()
	// Trip is the time to the peer's kernel and back, the least that was seen; 0 if it is not known.
	Trip() time.Duration
	// Flows tells whether much more has gone out of late than is pending.
	Flows() bool
	// Charge has what the transport keeps counted in b.
	Charge(b *Budget)
	Loop() Loop
}

// Protocol receives what a Transport reads. Calls come from the transport's loop.
type Protocol interface {
	// Feed takes bytes and returns how many it has used up; the rest comes again, with more behind it.
	// An error ends the connection with Abort; the protocol has written its farewell before.
	Feed(b []byte) (int, error)
	// EOF says that the peer has half-closed in good order: over TLS by close_notify; without, it is Closed with an
	// error, for a body may end here. Nothing is fed afterwards. It is not called while reading is paused,
	// so that every byte which Feed could still take has been taken.
	EOF()
	// Writable says that Pending fell to zero after a Write had left it above LowWater.
	Writable()
	// Closed is the last call of all. err is nil after an orderly close.
	Closed(err error)
}

// Loop runs functions one at a time.
type Loop interface {
	Now() time.Time
	// Post runs f on the loop, from any goroutine.
	Post(f func())
	// After runs f on the loop after d, unless the returned function is called on the loop before.
	After(d time.Duration, f func()) (cancel func())
}

// Field is one header or trailer field. Name keeps the case it had on the wire.
type Field struct {
	Name, Value string
	// Sensitive says that it came as never indexed and has to travel on as such (RFC 7541 section 6.2.3).
	Sensitive bool
	Notes     Notes
}

// String shows a field, but not the value of one that is sensitive.
func (f Field) String() string {
	if f.Sensitive {
		return "{" + f.Name + " (sensitive)}"
	}
	return "{" + f.Name + " " + f.Value + "}"
}

// Head is the head of a request or of a response, in the form of HTTP/2: pseudo-fields apart, hop-by-hop fields
// gone (RFC 9110 section 7.6.1), "TE: trailers" kept. Host is in Authority, never in Fields.
type Head struct {
	// Requests. Protocol is the upgrade token: an HTTP/1.1 Upgrade or an extended CONNECT (RFC 8441); with it,
	// Method is the method of the HTTP/1.1 request, or CONNECT if it arrived as extended CONNECT.
	Method, Scheme, Authority, Path, Protocol string
	// Responses. 1xx are passed on as they come; 101 answers a Protocol, and 200 does on HTTP/2.
	// A response's Protocol is what an HTTP/1.1 peer named in Upgrade (101, 426).
	Status int

	Version Version // what the application at this end speaks
	Fields  []Field // Content-Length is among them, once, if it was declared
	Length  int64   // of the body as declared; -1 if not

	// Service is the destination that the dialling proxy resolved, "namespace/name:port". It travels on private
	// HTTP/2 only.
	Service string
}

// Clone is a copy that lives on after the call in which h was passed.
func (h *Head) Clone() Head {
	c := *h
	c.Fields = slices.Clone(h.Fields)
	return c
}

// Version of HTTP.
type Version uint8

// Versions, in the order of their age.
const (
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
)

// Side is one end of an exchange as its other end sees it: a codec that writes to its own peer.
type Side interface {
	// WriteHead writes a request's head (upstream) or a response's, 1xx included (downstream).
	WriteHead(x *Exchange, h *Head, end bool)
	// WriteData writes body bytes, or a tunnel's after a Protocol or CONNECT was accepted. The side calls
	// Consumed on the other side when it has handed them to its transport.
	WriteData(x *Exchange, b []byte, end bool)
	// WriteTrailers ends the message with trailer fields; with none, it is WriteData(x, nil, true).
	WriteTrailers(x *Exchange, f []Field)
	// Reset gives the exchange up towards this side's peer. The side forgets x.
	Reset(x *Exchange, why Reason)
	// Consumed gives the side credit for n body bytes that it delivered.
	Consumed(x *Exchange, n int)
}

// Reason tells why an exchange ended early. The zero value is no reason.
type Reason struct {
	Code Code
	// Unprocessed: the peer has certainly not acted on the request (never sent, RST_STREAM REFUSED_STREAM,
	// above GOAWAY's last stream): it may be sent again, whatever its method.
	Unprocessed bool
	// Reused: it was sent on a connection that had served before and that closed without a byte of response.
	Reused bool
	Detail string // for logs, constant text
}

// Code is a class of reasons.
type Code uint8

// The codes.
const (
	CodeNone     Code = iota
	CodeCancel        // the other side lost interest
	CodeConnect       // no connection could be made
	CodeClosed        // the connection ended in mid-message
	CodeProtocol      // the peer broke the protocol
	CodeTimeout       // a time limit passed
	CodeLimit         // one of our limits was reached
	CodeInternal      // our own fault
	CodeRefused       // refused by policy or by the peer's certificate
)
