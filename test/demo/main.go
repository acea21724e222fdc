// Command demo shows the mesh at work on one machine: two nodes and their pods as network namespaces, a controller,
// and the vote application in an enrolled namespace.
//
// Promises:
//  1. Everything but Kubernetes is real: eBPF, the CNI chain, certificates, the programs.
//  2. What it says of leaks comes from captured packets, not from the product's word.
//  3. It leaves nothing behind, however it ends, and says so.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fairlead.io/fairlead/examples/vote/bot"
	"fairlead.io/fairlead/internal/testnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	ok, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

type options struct {
	bin, mesh, listen, keepLogs string
	once                        bool
	length                      time.Duration
	rate                        float64
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "bin", "directory of the programs")
	f.StringVar(&o.mesh, "mesh", "on", "on, or off: the same application without the mesh, to see that the check can fail")
	f.BoolVar(&o.once, "once", false, "run for --length without a terminal and end with a line of JSON")
	f.DurationVar(&o.length, "length", 20*time.Second, "how long --once runs")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "where the vote page is served on this machine; without --once only")
	f.Float64Var(&o.rate, "rate", 20, "requests per second of the bot")
	f.StringVar(&o.keepLogs, "keep-logs", "", "directory to copy the programs' logs to")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.mesh != "on" && o.mesh != "off" {
		return o, fmt.Errorf("--mesh=%s: want on or off", o.mesh)
	}
	if os.Geteuid() != 0 {
		return o, errors.New("root is needed: network namespaces and eBPF")
	}
	return o, nil
}

// verdict is the last line of --once.
type verdict struct {
	Requests     uint64  `json:"requests"`
	Failed       uint64  `json:"failed_unexpectedly"`
	FailingRoute string  `json:"failing_route"`
	MTLSRatio    float64 `json:"mtls_ratio"`
	Leaks        uint64  `json:"plaintext_leaks"`
	Left         int     `json:"left_in_kernel"`
}

// ok says whether the demo has shown what it is for.
func (v verdict) ok() bool {
	return v.Requests > 0 && v.Failed == 0 && strings.Contains(strings.ToLower(v.FailingRoute), bot.Faulty) && v.MTLSRatio == 1 && v.Leaks == 0 && v.Left == 0
}

func run(ctx context.Context, args []string) (bool, error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	before, err := kernelObjects()
	if err != nil {
		return false, err
	}
	v, err := play(ctx, o)
	left, kerr := leftSince(before)
	if kerr != nil {
		return false, errors.Join(err, kerr)
	}
	v.Left = left
	if !o.once || err != nil || ctx.Err() != nil {
		fmt.Printf("\nStopped. Left in the kernel: %d.\n", v.Left)
		return !o.once && v.Left == 0, err
	}
	line, err := json.Marshal(v)
	if err != nil {
		return false, err
	}
	fmt.Println(string(line))
	return v.ok(), nil
}

// play sets the stage, runs the show, and clears the stage.
func play(ctx context.Context, o options) (v verdict, err error) {
	lab, err := testnet.New(testnet.Config{Nodes: 2, Plugins: o.bin + "/cni"})
	if err != nil {
		return v, fmt.Errorf("make the nodes: %w", err)
	}
	defer func() { err = errors.Join(err, copyLogs(lab, o.keepLogs), lab.Close()) }()
	s := &stage{o: o, lab: lab}
	defer func() { err = errors.Join(err, s.clear()) }()
	if err := s.set(ctx); err != nil {
		if ctx.Err() != nil { // that is why, and no fault
			return v, nil
		}
		return v, err
	}
	if o.once {
		return s.once(ctx)
	}
	return v, s.show(ctx)
}
