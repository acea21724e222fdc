package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

const (
	idleConns = 10000 // as many as a pod may have
	// fewUpstreams is how many connections may be kept for later, whoever asks.
	fewUpstreams = 100
	// stillness is how long memory has to stay within stillKiB, and stillLimit how long that is waited for at most.
	stillness  = 3 * time.Second
	stillKiB   = 256
	stillLimit = 30 * time.Second
)

// measureConns says what memory an idle connection takes: HTTP/1.1, one request each, of all proxies of a contender together. What
// the kernel holds for sockets is not in it.
func (s *stage) measureConns(ctx context.Context, r *report) error {
	t := &turns{list: s.contenders(kinds(1)[0])}
	defer func() { r.leave(t.left) }()
	for _, c := range t.list {
		err := s.measureHeld(ctx, c, r)
		if err != nil {
			err = errors.Join(ctx.Err(), t.drop(c, "idle_conn", err))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) measureHeld(ctx context.Context, c contender, r *report) error {
	before, err := settled(ctx, c.pids())
	if err != nil {
		return err
	}
	held, err := s.hold(ctx, c)
	if err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	after, err := settled(ctx, c.pids())
	upstreams, uerr := s.upstreams(c)
	if err := errors.Join(err, uerr, held.Stop(10*time.Second)); err != nil {
		return err
	}
	if upstreams > fewUpstreams {
		return fmt.Errorf("%d connections to the origin are held for clients that do nothing", upstreams)
	}
	r.note("idle_conn_upstreams", c.name, "", float64(upstreams))
	r.note("idle_conn_kib", c.name, "KiB", float64(after-before)/idleConns)
	return nil
}

// upstreams is how many connections the origin's own port has, which serves a contender.
func (s *stage) upstreams(c contender) (int, error) {
	origin := s.servers[s.plain.origin]
	if c.mesh {
		origin = s.servers[s.meshed.origin]
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", origin.PID()))
	if err != nil {
		return 0, err
	}
	return established(string(table), originH1), nil
}

// established counts the connections of a local port in a table of /proc/net/tcp that are open at both ends.
func established(table string, port int) int {
	const open = "01"
	n := 0
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == open {
			n++
		}
	}
	return n
}

// hold starts a program that holds connections, and returns when they are there.
func (s *stage) hold(ctx context.Context, c contender) (*testnet.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var out, errs said
	args := []string{"hold", "--limit=5m", "--to=" + c.target, "--host=" + authority, "--path=" + itemPath, "--connections=" + strconv.Itoa(idleConns)}
	p, err := c.client.Start(testnet.Command{Path: s.o.own("drive"), Args: append(args, fieldArgs()...), Stdout: &out, Stderr: &errs})
	if err != nil {
		return nil, err
	}
	for out.String() != "ready\n" {
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for connections: %w", ctx.Err()), p.Kill())
		case <-p.Done():
			return nil, fmt.Errorf("hold connections: %s", errs.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p, nil
}

// said is what a program has printed so far.
type said struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

// Write takes what is printed.
func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

// String is all of it.
func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// settled is the memory of processes in KiB, as soon as it stands still, or after a while.
func settled(ctx context.Context, pids []int) (int, error) {
	since, limit := time.Now(), time.Now().Add(stillLimit)
	last, err := residents(pids)
	for err == nil && time.Since(since) < stillness && time.Now().Before(limit) {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
		var now int
		now, err = residents(pids)
		if now > last+stillKiB || now < last-stillKiB {
			last, since = now, time.Now()
		}
	}
	return last, err
}

// residents is the resident memory of processes in KiB.
func residents(pids []int) (int, error) {
	sum := 0
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		kib, err := parseResident(string(status))
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", pid, err)
		}
		sum += kib
	}
	return sum, nil
}

func parseResident(status string) (int, error) {
	number, ok := strings.CutSuffix(statusField(status, "VmRSS"), " kB")
	if !ok {
		return 0, errors.New("no VmRSS")
	}
	return strconv.Atoi(number)
}
