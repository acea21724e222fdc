package testnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTheProductsProgramsRunAsOnANode(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 1})
	n := lab.Node(0)
	// A binary where only root can get at it, as tests build them.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(t.TempDir(), "nodeproxy")
	if err := os.WriteFile(private, self, 0o700); err != nil {
		t.Fatal(err)
	}
	bpffs := " " + n.BPFFS() + " "
	for role, tc := range map[string]struct {
		start func(string, ...string) (*Process, error)
		want  []string
	}{
		"n1-keeper":          {n.StartKeeper, []string{"host n1 uid 0 gid 0", bpffs}},
		"n1-proxy":           {n.StartProxy, []string{"host n1 uid 65532 gid 65532", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"}},
		"control-controller": {lab.StartController, []string{"host control uid 0 gid 0"}},
	} {
		p, err := tc.start(private, "look")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := p.Wait(ctx); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		cancel()
		b, err := os.ReadFile(filepath.Join(lab.LogDir(), role+".log"))
		for _, want := range tc.want {
			if err != nil || !strings.Contains(string(b), want) {
				t.Errorf("%s logged no %q but %q, %v", role, want, b, err)
			}
		}
	}
	var dump strings.Builder
	if err := lab.DumpLogs(&dump); err != nil || strings.Count(dump.String(), "==> ") != 3 {
		t.Errorf("%v in %q", err, dump.String())
	}
}

func TestProcessesEndAndStartAgain(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 1})
	n := lab.Node(0)
	for range 3 {
		p := mustServe(t, n, ":7000")
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "cgroup"))
		if err != nil || !strings.Contains(string(status), filepath.Base(lab.Cgroup())+"/n1") {
			t.Errorf("cgroup %q, %v", status, err)
		}
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(p.PID(), 0); err == nil {
			t.Error("it lives")
		}
	}
	p := mustServe(t, n, ":7000")
	if err := p.Stop(5 * time.Second); err != nil {
		t.Error(err)
	}
	if _, err := n.Run(t.Context(), Command{Path: "no-such-program"}); err == nil {
		t.Error("ran a program that is not there")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := n.Run(ctx, role("serve", ":7000")); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("a program without an end: %v after %s", err, time.Since(start))
	}
}

func TestProgramsDieWithTheLabsProcess(t *testing.T) {
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "TESTNET_ROLE=lab", "TESTNET_ARG="+plugins)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir, cgroup string
	_, scanErr := fmt.Fscan(out, &pid, &dir, &cgroup)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // killed
	if scanErr != nil {
		t.Fatal(scanErr)
	}
	deadline := time.Now().Add(5 * time.Second)
	for populated := true; populated; {
		b, err := os.ReadFile(filepath.Join(cgroup, "cgroup.events"))
		if populated = strings.Contains(string(b), "populated 1"); err != nil || populated && time.Now().After(deadline) {
			t.Fatalf("pid %d outlived its lab: %q, %v", pid, b, err)
		}
		<-time.After(5 * time.Millisecond)
	}
	if err := errors.Join(removeCgroup(cgroup), os.RemoveAll(dir)); err != nil {
		t.Error(err)
	}
}
