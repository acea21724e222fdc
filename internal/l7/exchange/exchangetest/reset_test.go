package exchangetest_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"fairlead.io/fairlead/internal/l7/exchange"
	. "fairlead.io/fairlead/internal/l7/exchange/exchangetest"
)

// resetter is an HTTP/2 server that resets every stream.
func resetter(t *testing.T, code http2.ErrCode) string {
	return rawServer(t, func(nc net.Conn, r *bufio.Reader) {
		io.CopyN(io.Discard, r, int64(len(http2.ClientPreface)))
		f := http2.NewFramer(nc, r)
		f.WriteSettings()
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := fr.(*http2.HeadersFrame); ok {
				f.WriteRSTStream(h.StreamID, code)
			}
		}
	})
}

// TestResetCodes follows a RST_STREAM from the app to the client.
func TestResetCodes(t *testing.T) {
	for _, middle := range []string{"", Private} {
		for _, code := range []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeProtocol} {
			nc, r := dialRaw(t, way(t, path{H2, middle, H2}, resetter(t, code), exchange.Limits{}))
			io.WriteString(nc, http2.ClientPreface)
			f := http2.NewFramer(nc, r)
			f.WriteSettings()
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}} {
				enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
			}
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					t.Fatalf("%v: %v", code, err)
				}
				if rst, ok := fr.(*http2.RSTStreamFrame); ok {
					if rst.ErrCode != code {
						t.Errorf("by way of %q, %v arrived as %v", middle, code, rst.ErrCode)
					}
					break
				}
			}
		}
	}
}

// TestClientGivesUp sees whether an app learns that its client has gone.
func TestClientGivesUp(t *testing.T) {
	for _, from := range []string{H1, H2} {
		for _, middle := range []string{"", Private} {
			for _, to := range []string{H1, H2} {
				p := path{from, middle, to}
				t.Run(p.String(), func(t *testing.T) {
					began, gone := make(chan bool), make(chan bool)
					s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
						close(began)
						select {
						case <-r.Context().Done():
							close(gone)
						case <-time.After(10 * time.Second):
						}
					}))
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetHTTP1(true)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					defer s.Close()
					ctx, cancel := context.WithCancel(context.Background())
					req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+way(t, p, s.Listener.Addr().String(), exchange.Limits{}), nil)
					go func() { <-began; cancel() }()
					if r, err := client(t, from).Do(req); err == nil {
						r.Body.Close()
						t.Fatal("a response came")
					}
					select {
					case <-gone:
					case <-time.After(10 * time.Second):
						t.Error("the app never learnt of it")
					}
				})
			}
		}
	}
}

// TestServerGone has an app that closes within a response, or without one: the client must see neither as whole.
func TestServerGone(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		target := rawServer(t, func(nc net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(nc, answer)
		})
		for _, from := range []string{H1, H2} {
			for _, middle := range []string{"", Private} {
				r, err := client(t, from).Get("http://" + way(t, path{from, middle, H1}, target, exchange.Limits{}))
				if err != nil {
					continue
				}
				b, err := io.ReadAll(r.Body)
				r.Body.Close()
				if err == nil && r.StatusCode != 502 {
					t.Errorf("%s by way of %q, answer %q: %d, %q", from, middle, answer, r.StatusCode, b)
				}
			}
		}
	}
}

// TestEarlyResponseToLargeBody answers while a body is coming that nobody reads.
func TestEarlyResponseToLargeBody(t *testing.T) {
	for _, p := range []path{{H1, "", H1}, {H2, "", H1}, {H1, Private, H2}, {H2, Private, H2}} {
		t.Run(p.String(), func(t *testing.T) {
			addr := way(t, p, origin(t), exchange.Limits{})
			body := io.LimitReader(zeros{}, 64<<20)
			r, err := client(t, p.client).Post("http://"+addr+"/early", "text/plain", body)
			if err != nil {
				if strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe") {
					return // the client was still writing when the connection ended; net/http then may lose the response
				}
				t.Fatal(err)
			}
			if got := read(t, r, err); r.StatusCode != 413 || got != "too much" {
				t.Errorf("got %d %q", r.StatusCode, got)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
