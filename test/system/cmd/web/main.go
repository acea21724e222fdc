// Web is an HTTP server for tests, HTTP/1.1 and HTTP/2 without TLS on one port. It shows what reached it.
//
//	/echo          the request's body
//	/bytes?n=N     N bytes, the same every time
//	/status?code=N an answer with that status
//	/show          the request as JSON: method, protocol, remote address, headers, server's name
//	/ws            a WebSocket that echoes messages, and closes with 4321 when told "close"
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

var name = flag.String("name", "", "what /show and every answer's header X-Server say")

func main() {
	listen := flag.String("listen", ":8080", "address")
	flag.Parse()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/bytes", bytes)
	mux.HandleFunc("/status", status)
	mux.HandleFunc("/show", show)
	mux.HandleFunc("/ws", ws(slog.New(slog.NewJSONHandler(os.Stderr, nil))))
	srv := &http.Server{Addr: *listen, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Server", *name)
			mux.ServeHTTP(w, r)
		})}
	fmt.Fprintln(os.Stderr, "web:", srv.ListenAndServe())
	os.Exit(1)
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength >= 0 {
		w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	// Whole first: before an answer to HTTP/1 begins, net/http throws away what is left of the body.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := w.Write(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil || n < 0 || n > 100<<20 {
		http.Error(w, "n?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.Method == http.MethodHead {
		return
	}
	line := make([]byte, 4096)
	for i := range line {
		line[i] = byte(i*i>>4 + i)
	}
	for ; n > 0; n -= len(line) {
		if _, err := w.Write(line[:min(n, len(line))]); err != nil {
			return
		}
	}
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil || code < 200 || code > 599 {
		code = http.StatusBadRequest
	}
	w.WriteHeader(code)
}

func show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(map[string]any{"method": r.Method, "proto": r.Proto, "remote": r.RemoteAddr, "host": r.Host,
		"headers": r.Header, "server": *name})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

func ws(log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			log.Warn("websocket not accepted", "err", err)
			return
		}
		err = converse(r.Context(), c)
		log.Info("websocket ended", "err", errors.Join(err, c.CloseNow()))
	}
}

// converse echoes messages until one of the two sides closes.
func converse(ctx context.Context, c *websocket.Conn) error {
	c.SetReadLimit(4 << 20)
	for {
		kind, b, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if string(b) == "close" {
			return c.Close(4321, "as told")
		}
		if err := c.Write(ctx, kind, b); err != nil {
			return err
		}
	}
}
