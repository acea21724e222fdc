// Command bench says what a request costs in a mesh of two nodes, beside pairs of HAProxy, nginx, Envoy and net/http's
// ReverseProxy and a bare TCP forwarder, on the same namespaces and links.
//
// Promises:
//  1. The figure is the processor time of all proxy processes of a contender, keepers included, for one request that has succeeded, while
//     connections are there; what a connection costs is a figure of its own.
//  2. Proxies have one processor for themselves, load and origins the other (but for what two cores serve, on a machine of fewer than
//     four); a thread elsewhere makes the run fail.
//  3. Contenders take turns under each load, so that what else the machine does meets them alike; nothing is compared across runs.
//  4. A request of Fairlead that fails, or that did not go the way it should, makes the run fail; another contender is left out of that load,
//     and the output says so.
//  5. Nothing is left behind, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin, profile, keepLogs, write string
	envoy                         string // its program; empty without it
	only                          *regexp.Regexp
	rounds, seconds               int
	quick, peers                  bool
	rules                         bool // routes and policies are in force
}

func (o options) wants(what string) bool { return o.only.MatchString(what) }

// own is a program of this module, which lies beside this one.
func (o options) own(name string) string { return filepath.Join(o.bin, "bench", name) }

// few is how many rounds there are of what takes long.
func (o options) few() int { return min(o.rounds, fewRounds) }

// wantsLoad tells whether a load of a kind is. A quick run has those that take long only where they are named.
func (o options) wantsLoad(k kind, l offer) bool {
	return o.wants(k.name+"/"+l.name) && (!o.quick || !k.long || o.only.String() != "")
}

// wantsLoads tells whether any load of any kind is wanted.
func (o options) wantsLoads() bool {
	for _, k := range kinds(o.seconds) {
		for _, l := range k.loads {
			if o.wantsLoad(k, l) {
				return true
			}
		}
	}
	return false
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "three rounds of two seconds, of our peers HAProxy alone, and no cases that take long, but idle_node: under five minutes")
	f.BoolVar(&o.peers, "peers", false, "with --quick: nginx, ReverseProxy and Envoy too")
	only := f.String("case", "", "regular expression: the cases to run, as case/load, "+extraNames())
	f.BoolVar(&o.rules, "rules", false, "with 50 rules of routes and 20 policies in force for what is asked")
	f.IntVar(&o.rounds, "rounds", 0, "how often each contender has its turn, and three times at most nginx, ReverseProxy, Envoy, and everybody in what takes long; 5, or 3 with --quick")
	f.StringVar(&o.bin, "bin", "bin", "directory of the programs")
	f.StringVar(&o.profile, "profile", "", "directory for profiles of the proxies under saturation, in runs that are not counted")
	f.StringVar(&o.keepLogs, "keep-logs", "", "directory to copy the programs' logs to")
	f.StringVar(&o.write, "write", "", "directory to write the figures to as a page and as JSON")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	rounds := 5
	o.seconds = 3
	if o.quick {
		rounds, o.seconds = 3, 2
	}
	o.peers = o.peers || !o.quick
	if o.rounds == 0 {
		o.rounds = rounds
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("--case: %w", err)
	}
	if os.Geteuid() != 0 {
		return o, errors.New("root is needed: network namespaces and eBPF")
	}
	if runtime.NumCPU() < 2 {
		return o, errors.New("two processors are needed: one for the proxies")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	m := look(ctx)
	if o.peers {
		if o.envoy, err = installEnvoy(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "bench: without Envoy:", err)
			m.Envoy = "not measured: it could not be installed"
		} else {
			m.Envoy = envoyVersion(firstLine(ctx, o.envoy, "--version"))
		}
	}
	r, failed := play(ctx, o)
	if err := errors.Join(ctx.Err(), r.table(out)); err != nil {
		return err
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	if o.write != "" { // behind the table, which is not lost if it fails
		m.Command = command(args)
		if err := r.write(o.write, m, o.rounds); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
	}
	_, err = fmt.Fprintf(out, "load average %s before, %s at the end\n%s\n", m.LoadAvg, loadAverage(), line)
	return errors.Join(failed, err)
}

// play measures all that is wanted. What fails ends the run only at its end: the rest is not lost.
func play(ctx context.Context, o options) (*report, error) {
	r := &report{}
	rest := func() error { return playRest(ctx, o, r) }
	if !o.wants(idleNode) {
		return r, rest()
	}
	return r, besideIdlePods(ctx, o, r, rest)
}

func playRest(ctx context.Context, o options, r *report) error {
	var errs []error
	if o.wantsLoads() {
		errs = append(errs, onStage(ctx, o, func(s *stage) error { return s.measureAll(ctx, r) }))
	}
	for _, e := range extras {
		if ctx.Err() != nil || !o.wants(e.name) || o.quick && e.slow && o.only.String() == "" {
			continue
		}
		began := time.Now()
		if err := e.play(ctx, o, r); err != nil {
			errs = append(errs, r.fail(fmt.Errorf("%s: %w", e.name, err)))
		}
		progress(e.name, began)
	}
	return errors.Join(errs...)
}

// measureAll goes through the loads that are wanted.
func (s *stage) measureAll(ctx context.Context, r *report) error {
	var errs []error
	for _, k := range kinds(s.o.seconds) {
		for _, l := range k.loads {
			if ctx.Err() == nil && s.o.wantsLoad(k, l) {
				errs = append(errs, s.measureLoad(ctx, k, l, r))
			}
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (s *stage) measureLoad(ctx context.Context, k kind, l offer, r *report) error {
	began := time.Now()
	rounds := s.o.rounds
	if k.size > 0 {
		rounds = s.o.few()
	}
	samples, gone, err := s.compare(ctx, k, l, s.contenders(k), rounds)
	r.leave(gone)
	if err != nil {
		return r.fail(err)
	}
	r.add(k, l, samples)
	r.commands = append(r.commands, [2]string{k.name + "/" + l.name, k.command(l)})
	progress(k.name+"/"+l.name, began)
	if s.o.profile != "" && l.name == saturated {
		return s.profile(ctx, k, l)
	}
	return nil
}

func progress(what string, began time.Time) {
	fmt.Fprintf(os.Stderr, "bench: %s in %.1f s, load average %s\n", what, time.Since(began).Seconds(), loadAverage())
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
