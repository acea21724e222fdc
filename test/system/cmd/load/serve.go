package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// maxWait bounds what a client may ask the server to wait.
const maxWait = 30 * time.Second

func serve(ctx context.Context, args []string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	var web, echo string
	var reset bool
	f := flag.NewFlagSet("load serve", flag.ContinueOnError)
	f.StringVar(&web, "http", ":8080", "address of HTTP; none when empty")
	f.StringVar(&echo, "tcp", ":9000", "address of the TCP echo; none when empty")
	f.StringVar(&name, "name", name, "the name that it answers with")
	f.BoolVar(&reset, "reset", false, "accept every connection, and reset it")
	if err := f.Parse(args); err != nil {
		return err
	}
	failed := make(chan error, 2)
	if reset {
		go func() { failed <- serveReset(ctx, web) }()
		return serveReset(ctx, echo)
	}
	if web != "" {
		go func() { failed <- serveHTTP(web, name) }()
	}
	if echo != "" {
		go func() { failed <- serveEcho(ctx, echo) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func serveHTTP(addr, name string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if ms, err := strconv.Atoi(r.URL.Query().Get("ms")); err == nil {
			if wait(r.Context(), min(time.Duration(ms)*time.Millisecond, maxWait)) != nil {
				return // nobody waits for the answer
			}
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Server-Name", name)
		if m := r.URL.Query().Get("say"); m != "" {
			fmt.Fprintln(w, m)
			return
		}
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/upgrade", upgrade)
	s := &http.Server{Addr: addr, Handler: mux, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s.ListenAndServe()
}

// upgrade is what a WebSocket's opening is to a proxy, with an echo behind it.
func upgrade(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	copyBack(c, rw.Reader)
}

func copyBack(w io.Writer, r *bufio.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait lets d pass, or less when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func serveEcho(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			if err := wait(ctx, time.Millisecond); err != nil { // out of descriptors: others will end
				return err
			}
			continue
		}
		go func() {
			defer c.Close()
			copyBack(c, bufio.NewReader(c))
		}()
	}
}

// serveReset resets whatever comes, until the program ends.
func serveReset(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
