package exchangetest_test

import (
	"context"
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
