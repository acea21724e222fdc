// Drive runs a load of package load in a pod: "pace" prints latencies as JSON, "fetch" reads bulk, "dial" makes connections at a rate, "hold" holds connections and prints
// "ready" when they are there.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fairlead.io/fairlead/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "drive:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: drive pace|fetch|dial|hold")
	}
	var p load.Pace
	f := flag.NewFlagSet("drive "+args[0], flag.ContinueOnError)
	f.StringVar(&p.Addr, "to", "", "address")
	f.StringVar(&p.Host, "host", "", "authority of the requests")
	f.StringVar(&p.Path, "path", "/", "path of the requests")
	f.IntVar(&p.Connections, "connections", 1, "how many")
	f.Float64Var(&p.Rate, "rate", 1000, "requests, or connections, a second")
	f.IntVar(&p.Requests, "requests", 1000, "how many")
	f.IntVar(&p.Warm, "warm", 0, "how many of them, at the beginning, do not count")
	each := f.Uint64("bytes", 1<<20, "bytes to fetch on each connection")
	limit := f.Duration("limit", time.Minute, "how long it may take")
	f.Func("field", "a field of the requests, \"name: value\"; may be given often", func(s string) error {
		if !strings.Contains(s, ": ") {
			return fmt.Errorf("no field: %q", s)
		}
		p.Fields = append(p.Fields, s)
		return nil
	})
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	switch args[0] {
	case "pace":
		l, err := p.Run(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(l)
	case "fetch":
		return load.Fetch(ctx, p.Addr, p.Connections, *each)
	case "dial":
		return load.Dial(ctx, p.Addr, p.Rate, p.Connections, *each)
	case "hold":
		return load.Hold(ctx, p, func() { fmt.Println("ready") })
	}
	return fmt.Errorf("no load is called %q", args[0])
}
