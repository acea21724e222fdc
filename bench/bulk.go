package main

import (
	"context"
	"fmt"
	"strconv"

	"fairlead.io/fairlead/internal/testnet"
)

// The ports of the pair of copy loops, and of what they are to carry.
const (
	originBulk = 8084
	copyA      = 9301
	copyB      = 9302
	tlsCopy    = "tls-copy"
	bulkConns  = 4
	bulkMiB    = 96 // on each connection and for each second of a load
)

// startCopies starts a program of two copy loops on each side, with TLS between them.
func (s *stage) startCopies(ctx context.Context) error {
	for _, p := range []struct {
		pod        *testnet.Pod
		name       string
		port       int
		to, server string
	}{
		{s.plain.origin, nameB, copyB, fmt.Sprintf("127.0.0.1:%d", originBulk), ""},
		{s.plain.client, nameA, copyA, fmt.Sprintf("%s:%d", s.plain.origin.Addr(4), copyB), nameB},
	} {
		proc, err := p.pod.Start(testnet.Command{Path: s.o.own("tlscopy"), Log: "tlscopy-" + p.name + ".log",
			Args: []string{fmt.Sprintf("--listen=:%d", p.port), "--to=" + p.to, "--server-name=" + p.server,
				"--certificate=" + pem(s.dir, p.name), "--ca=" + ca(s.dir)}})
		if err != nil {
			return fmt.Errorf("start the copy loops: %w", err)
		}
		s.copies = append(s.copies, proc)
	}
	return nil
}

// measureBulk says what a MiB of opaque TCP costs, beside a pair of copy loops and HAProxy.
func (s *stage) measureBulk(ctx context.Context, r *report) error {
	ours := s.contenders(kinds(1)[0])[0]
	ours.target = fmt.Sprintf("%s:%d", s.pair, originBulk)
	list := []contender{ours,
		{name: tlsCopy, client: s.plain.client, target: fmt.Sprintf("127.0.0.1:%d", copyA), proxies: s.copies}}
	if !s.o.quick {
		list = append(list, s.beside(haproxy, haproxyBulk, s.pairs[0].processes...))
	}
	for round := -1; round < s.o.rounds; round++ { // the first warms up
		for i := range list {
			c := list[i]
			if round%2 != 0 {
				c = list[len(list)-1-i]
			}
			us, err := s.fetch(ctx, c)
			if err != nil {
				return fmt.Errorf("bulk through %s: %w", c.name, err)
			}
			if round >= 0 {
				r.note("bulk_cpu_per_mib", c.name, "µs", us)
			}
		}
	}
	return nil
}

// fetch is the proxies' time for one MiB.
func (s *stage) fetch(ctx context.Context, c contender) (float64, error) {
	mib := bulkMiB * s.o.seconds
	before, err := spent(c.pids())
	if err != nil {
		return 0, err
	}
	if _, err := s.drive(ctx, c.client, "fetch", "--to="+c.target, "--connections="+strconv.Itoa(bulkConns), "--bytes="+strconv.Itoa(mib<<20)); err != nil {
		return 0, err
	}
	after, err := spent(c.pids())
	if err != nil {
		return 0, err
	}
	return micros(after.minus(before).all) / float64(mib*bulkConns), s.checkPins(c)
}
