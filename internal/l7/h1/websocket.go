package h1

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"strings"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// appendWebSocketKey adds the key that a WebSocket opened over HTTP/2 does not have (RFC 8441 section 5.1).
func appendWebSocketKey(b []byte, h *exchange.Head) []byte {
	if !strings.EqualFold(h.Protocol, "websocket") {
		return b
	}
	if _, ok := exchange.Get(h.Fields, "sec-websocket-key"); ok {
		return b
	}
	var key [16]byte
	rand.Read(key[:])
	return appendField(b, "Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key[:]))
}

// appendWebSocketAccept answers a key whose handshake went on without it, over public HTTP/2 (RFC 6455 section 4.2.2).
func appendWebSocketAccept(b []byte, key string, h *exchange.Head) []byte {
	if _, ok := exchange.Get(h.Fields, "sec-websocket-accept"); ok || key == "" {
		return b
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return appendField(b, "Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
}
