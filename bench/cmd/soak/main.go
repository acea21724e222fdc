// Command soak keeps a mesh of two nodes under half of what it can for a long time, or gives one of its pods a noisy neighbour; package
// soak says what is promised. The same program is what runs in the pods.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fairlead.io/fairlead/bench/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "serve":
			return serve(ctx, args[1:])
		case "call":
			return call(ctx, args[1:])
		case "crowd":
			return crowd(ctx, args[1:])
		}
	}
	signal.Ignore(syscall.SIGPIPE) // it goes on to its end when nobody reads any more: else what it made would stay
	c := soak.Config{Out: os.Stdout, Progress: os.Stderr}
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.StringVar(&c.Bin, "bin", "bin", "directory of the programs")
	f.DurationVar(&c.Length, "for", 10*time.Minute, "how long")
	f.IntVar(&c.Rate, "rate", 0, "requests a second; 0 is half of what is measured as saturation")
	f.DurationVar(&c.LeafTTL, "leaf-ttl", 0, "lifetime of certificates; 0 is 30s")
	f.StringVar(&c.Samples, "samples", "", "file to write all samples to, as CSV")
	f.StringVar(&c.KeepLogs, "keep-logs", "", "directory to copy the programs' logs to")
	var noise soak.Noise
	f.IntVar(&noise.Requests, "requests", 128, "noisy: requests of the neighbour that are under way at once")
	f.IntVar(&noise.Bytes, "bytes", 8, "noisy: connections of the neighbour with bytes without end")
	f.IntVar(&noise.Rounds, "rounds", 5, "noisy: how often it is measured")
	if err := f.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.Self = self
	switch f.Arg(0) {
	case "":
		return soak.Run(ctx, c)
	case "noisy":
		return soak.Noisy(ctx, c, noise)
	}
	return fmt.Errorf("nothing is called %q", f.Arg(0))
}

func serve(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("soak serve", flag.ContinueOnError)
	yields := f.Bool("yield", false, "leave the processor to whoever else wants it")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *yields {
		if err := soak.Yield(); err != nil {
			return err
		}
	}
	return soak.Serve(ctx)
}

func crowd(ctx context.Context, args []string) error {
	var c soak.Crowd
	f := flag.NewFlagSet("soak crowd", flag.ContinueOnError)
	f.StringVar(&c.To, "to", "", "address of who is called")
	f.IntVar(&c.Requests, "requests", 0, "that are under way at once")
	f.IntVar(&c.Bytes, "bytes", 0, "connections that bytes go over")
	if err := f.Parse(args); err != nil {
		return err
	}
	if err := soak.Yield(); err != nil {
		return err
	}
	made, err := c.Run(ctx, func() { fmt.Println("full") })
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

func call(ctx context.Context, args []string) error {
	var c soak.Call
	f := flag.NewFlagSet("soak call", flag.ContinueOnError)
	f.StringVar(&c.To, "to", "", "address of the service")
	f.StringVar(&c.Anchor, "anchor", "", "address of the service whose endpoint stays")
	f.Float64Var(&c.Rate, "rate", 0, "requests a second; 0 is as many as are answered")
	f.DurationVar(&c.Length, "for", time.Minute, "how long")
	f.IntVar(&c.Streams, "streams", 0, "streams, and opaque connections, that are open")
	if err := f.Parse(args); err != nil {
		return err
	}
	r, err := c.Run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
