package h1

import (
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
)

// serve runs a server over in and returns what came of it: what upstreams were told, and the answers.
func serve(in []byte, piece int, lim exchange.Limits) (told, answered string, w *wiretest.Wire) {
	return serveWith(nil, in, piece, lim)
}

// serveWith is serve with a memory of lines.
func serveWith(memo *Memo, in []byte, piece int, lim exchange.Limits) (told, answered string, w *wiretest.Wire) {
	w = &wiretest.Wire{}
	up := &wiretest.Sink{Answer: &exchange.Head{Status: 204, Length: -1}}
	s := NewServer(w, ServerConfig{Limits: lim, Memo: memo, Request: func(x *exchange.Exchange, h *exchange.Head, end bool) {
		up.WriteHead(x, h, end)
		x.Bind(wiretest.Credit{Sink: up})
		if end {
			up.Done(x)
		} else if x.Tunnel {
			x.ResponseHead(&exchange.Head{Status: 101, Length: -1}, false)
		}
	}})
	w.Feed(s, in, piece)
	w.End(s)
	return up.Log.String(), string(w.Out), w
}
