package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"fairlead.io/fairlead/test/cluster/build"
	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/lab"
)

var errUsage = errors.New("usage: cluster [--name NAME] COMMAND")

// env is what a command gets.
type env struct {
	ctx      context.Context
	name     string
	args     []string
	out, log io.Writer
}

type command struct {
	name, args, about string
	run               func(env) error
}

var commands []command

func init() {
	commands = []command{ // usage reads it, so it cannot be initialised where it stands
		{"build", "", "build all programs and images into the cache", runBuild},
		{"up", "[--nodes 2] [--kube-proxy nftables|iptables] [--port 16443] [--dual-stack]", "build what is missing and start what does not run", runUp},
		{"down", "", "end the cluster; nothing of it is left", runDown},
		{"status", "", "what runs", runStatus},
		{"paths", "", "as JSON: kubeconfig, clients, directories, nodes", runPaths},
		{"kubectl", "ARGS...", "kubectl as the administrator", runKubectl},
		{"helm", "ARGS...", "helm as the administrator", runHelm},
		{"exec", "NODE -- COMMAND...", "run a command on a node", runExec},
		{"switch", "-- COMMAND...", "run a command where nodes, pods and services can be reached", runSwitch},
		{"load", "IMAGE.tar...", "load images into each node", runLoad},
		{"stop", "NODE", "end a node as a loss of power would", runStop},
		{"start", "NODE", "start a node that was stopped", runStart},
	}
}

func usage(log io.Writer) error {
	table := tabwriter.NewWriter(log, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		fmt.Fprintf(table, "  %s %s\t%s\n", c.name, c.args, c.about)
	}
	return errors.Join(errUsage, table.Flush())
}

// globalName takes --name from before the command.
func globalName(args []string) (name string, rest []string, err error) {
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&name, "name", "lab", "")
	if err := f.Parse(args); err != nil && !errors.Is(err, flag.ErrHelp) {
		return "", nil, fmt.Errorf("%w (%w)", errUsage, err)
	}
	return name, f.Args(), nil
}

// flags parses a command's own, among them --name once more, and leaves exactly want arguments; -1 is one or more.
func (e *env) flags(define func(*flag.FlagSet), want int) error {
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&e.name, "name", e.name, "")
	if define != nil {
		define(f)
	}
	if err := f.Parse(e.args); err != nil {
		return fmt.Errorf("%w (%w)", errUsage, err)
	}
	e.args = f.Args()
	if len(e.args) != want && (want >= 0 || len(e.args) == 0) {
		return fmt.Errorf("%w (arguments: %q)", errUsage, e.args)
	}
	return nil
}

func (e *env) open() (*lab.Lab, error) { return lab.Open(e.name, e.log) }

func runBuild(e env) error {
	if err := e.flags(nil, 0); err != nil {
		return err
	}
	b, err := build.New(e.log)
	if err != nil {
		return err
	}
	if err := b.Run(e.ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.out, b.Dir)
	return err
}

func runUp(e env) error {
	c := config.Cluster{}
	port := uint(0)
	if err := e.flags(func(f *flag.FlagSet) {
		f.IntVar(&c.Nodes, "nodes", 2, "")
		f.StringVar(&c.KubeProxy, "kube-proxy", "nftables", "")
		f.UintVar(&port, "port", 16443, "")
		f.BoolVar(&c.DualStack, "dual-stack", false, "")
	}, 0); err != nil {
		return err
	}
	if port > 65535 {
		return fmt.Errorf("port %d: want a port of 127.0.0.1", port)
	}
	c.Name, c.Port = e.name, uint16(port)
	b, err := build.New(e.log)
	if err != nil {
		return err
	}
	if err := b.Run(e.ctx); err != nil {
		return err
	}
	l, err := lab.New(c, b.Dir, e.log)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := l.Up(e.ctx); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	fmt.Fprintf(e.log, "%d nodes are ready after %.1f s\n", l.Cluster.Nodes, time.Since(began).Seconds())
	_, err = fmt.Fprintln(e.out, l.Kubeconfig())
	return err
}

func runDown(e env) error {
	if err := e.flags(nil, 0); err != nil {
		return err
	}
	return lab.Down(e.ctx, e.name, e.log)
}

// on runs what needs a cluster and takes want arguments.
func (e *env) on(want int, do func(*lab.Lab) error) error {
	if err := e.flags(nil, want); err != nil {
		return err
	}
	l, err := e.open()
	if err != nil {
		return err
	}
	return do(l)
}

func runStatus(e env) error { return e.on(0, func(l *lab.Lab) error { return l.Status(e.ctx, e.out) }) }
func runPaths(e env) error  { return e.on(0, func(l *lab.Lab) error { return l.Paths(e.out) }) }
func runLoad(e env) error   { return e.on(-1, func(l *lab.Lab) error { return l.Load(e.ctx, e.args) }) }
func runStop(e env) error   { return e.on(1, func(l *lab.Lab) error { return l.Stop(e.ctx, e.args[0]) }) }
func runStart(e env) error {
	return e.on(1, func(l *lab.Lab) error { return l.Start(e.ctx, e.args[0]) })
}

func runKubectl(e env) error {
	l, err := e.open()
	if err != nil {
		return err
	}
	return l.Client(l.Kubectl(), e.args)
}

func runHelm(e env) error {
	l, err := e.open()
	if err != nil {
		return err
	}
	return l.Client(l.Helm(), e.args)
}

func runExec(e env) error {
	if len(e.args) == 0 {
		return fmt.Errorf("%w (which node?)", errUsage)
	}
	args, err := behindDashes(e.args[1:])
	if err != nil {
		return err
	}
	l, err := e.open()
	if err != nil {
		return err
	}
	return l.Exec(e.args[0], args)
}

func runSwitch(e env) error {
	args, err := behindDashes(e.args)
	if err != nil {
		return err
	}
	l, err := e.open()
	if err != nil {
		return err
	}
	return l.Switch(args)
}

// behindDashes is a user's command line: what follows "--".
func behindDashes(args []string) ([]string, error) {
	if len(args) < 2 || args[0] != "--" {
		return nil, fmt.Errorf("%w (want -- and a command: %s)", errUsage, strings.Join(args, " "))
	}
	return args[1:], nil
}
