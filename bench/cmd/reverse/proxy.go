package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// handler is a ReverseProxy with what makes it cheaper: buffers that are used again, connections that are kept, nothing unpacked.
func (w way) handler(cfg *tls.Config) http.Handler {
	scheme := "http"
	t := &http.Transport{MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Hour, DisableCompression: true, Protocols: new(http.Protocols)}
	switch {
	case cfg.ServerName != "":
		scheme, t.TLSClientConfig = "https", cfg.Clone()
		t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		t.Protocols.SetHTTP2(true)
	case w.h2:
		t.Protocols.SetUnencryptedHTTP2(true)
	default:
		t.Protocols.SetHTTP1(true)
	}
	return &httputil.ReverseProxy{Transport: t, BufferPool: &buffers{}, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = scheme, w.to, r.In.Host
	}}
}

// buffers are those that bodies are copied with.
type buffers struct{ pool sync.Pool }

// Get is one that was put back, or a new one.
func (b *buffers) Get() []byte {
	if got, ok := b.pool.Get().(*[]byte); ok {
		return *got
	}
	return make([]byte, 32<<10)
}

// Put keeps one.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
