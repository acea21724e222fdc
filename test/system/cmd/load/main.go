// Load serves and makes the traffic of the fault tests. "load serve" answers HTTP/1.1, HTTP/2 without TLS, upgrades and
// a TCP echo; "load run" calls one of them again and again, until it is told to stop or its time is over, and prints how
// each call ended; "load stop" tells process 1 to stop, as which it runs in a container.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fairlead.io/fairlead/test/system/cmd/load/tally"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("serve, run or stop")
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:])
	case "run":
		return call(ctx, args[1:])
	case "stop":
		return syscall.Kill(1, syscall.SIGTERM)
	}
	return fmt.Errorf("serve, run or stop, not %q", args[0])
}

// plan is how calls are made.
type plan struct {
	mode, to, path, method string
	body                   int
	workers                int
	rate, calls            int
	length, limit          time.Duration
}

func call(ctx context.Context, args []string) error {
	var p plan
	f := flag.NewFlagSet("load run", flag.ContinueOnError)
	f.StringVar(&p.mode, "mode", "h1", "h1: keep-alive; h1new: a connection each; h2: HTTP/2; tcp: a connection and one echo each; stream: one connection, an echo each; upgrade: the same behind an HTTP upgrade")
	f.StringVar(&p.to, "to", "", "address:port")
	f.StringVar(&p.path, "path", "/", "of HTTP")
	f.StringVar(&p.method, "method", "GET", "of HTTP")
	f.IntVar(&p.body, "body", 0, "bytes of a request's body, or of an echo")
	f.IntVar(&p.workers, "workers", 4, "calls at once")
	f.IntVar(&p.rate, "rate", 100, "calls in a second, of all workers together")
	f.IntVar(&p.calls, "calls", 0, "how many calls of each worker at most; 0: no limit")
	f.DurationVar(&p.length, "for", time.Minute, "how long at most")
	f.DurationVar(&p.limit, "limit", 15*time.Second, "a call that takes longer hangs")
	if err := f.Parse(args); err != nil {
		return err
	}
	if p.to == "" || p.rate <= 0 || p.workers <= 0 || p.length <= 0 {
		return errors.New("-to, -rate, -workers and -for are needed")
	}
	ctx, cancel := context.WithTimeout(ctx, p.length)
	defer cancel()
	t := tally.New()
	if err := p.run(ctx, t); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(t.Report())
}
