// Command h2server answers every request over clear-text HTTP/2 from the codec itself, for conformance checkers.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/exchange/exchangetest"
	"fairlead.io/fairlead/internal/l7/h2"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	flag.Parse()
	if err := run(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "h2server:", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "listening on", ln.Addr())
	l := exchangetest.NewLoop()
	go l.Run()
	defer l.Close()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		l.Add(nc, func(t exchange.Transport) exchange.Protocol {
			return h2.NewServer(t, h2.ServerConfig{Request: request})
		})
	}
}

func request(x *exchange.Exchange, _ *exchange.Head, end bool) {
	x.Bind(&answer{})
	if end {
		respond(x)
	}
}

// answer is an upstream that takes the request and then answers it.
type answer struct{}

func respond(x *exchange.Exchange) {
	x.ResponseHead(&exchange.Head{Status: 200, Length: -1}, x.Head)
	if !x.Head {
		x.ResponseData([]byte("hello\n"), true)
	}
}

func (*answer) WriteHead(*exchange.Exchange, *exchange.Head, bool) {}

func (*answer) WriteData(x *exchange.Exchange, b []byte, end bool) {
	x.Down.Consumed(x, len(b))
	if end {
		respond(x)
	}
}

func (*answer) WriteTrailers(x *exchange.Exchange, _ []exchange.Field) { respond(x) }

func (*answer) Reset(*exchange.Exchange, exchange.Reason) {}

func (*answer) Consumed(*exchange.Exchange, int) {}
