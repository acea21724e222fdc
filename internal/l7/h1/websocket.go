package h1

import (
	"crypto/rand"
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
