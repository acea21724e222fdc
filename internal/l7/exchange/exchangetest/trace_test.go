package exchangetest_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net/http/httptrace"
	"net/textproto"
)

func withHints(ctx context.Context, f func(code int, link string)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			f(code, h.Get("Link"))
			return nil
		},
	})
}

// accept is what a WebSocket server makes of a key (RFC 6455 section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
