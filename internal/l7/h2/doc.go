// Package h2 speaks HTTP/2 (RFC 9113) on both sides of the proxy, with prior knowledge or behind ALPN. It is a
// push parser like h1: no goroutine, no lock, no blocking call.
//
// Promises:
//  1. A stream has at most its window of undelivered or unpaid bytes: Limits.StreamWindow, or, where its path is long and its
//     reader keeps up, up to Limits.StreamGrown. Credit goes back to the peer only when the other side has handed the bytes on. A
//     client's own connection has likewise Limits.ConnWindow; one that many share gives credit when bytes come, and the Budget
//     bounds what all of its streams hold.
//  2. What is sent waits in its stream until the peer's windows and the transport take it; streams take turns.
//  3. What RFC 9113 calls malformed never reaches an exchange: it ends its stream, or the connection.
//  4. Every kind of frame that costs the peer nothing is counted; too many in a second end the connection with
//     ENHANCE_YOUR_CALM.
//  5. In private mode names keep their case and Head's Version, Method, Protocol and Service travel as fairlead-*
//     fields; in public mode names are lower case. fairlead-* fields reach no exchange in either mode.
package h2

import "errors"

// Preface is what a client sends first.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

var (
	// ErrFull says that Send was called on a client that cannot take another stream.
	ErrFull = errors.New("connection takes no more streams")
	// ErrProtocol says that the peer has not announced extended CONNECT (RFC 8441).
	ErrProtocol = errors.New("peer takes no extended CONNECT")
)
