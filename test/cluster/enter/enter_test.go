package enter

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/test/cluster/proc"
)

// The test's binary is also this program on its way into a node.
func TestMain(m *testing.M) {
	called, code, err := Main(os.Args)
	if !called {
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// node is a process 1 that does nothing, in namespaces of its own.
func node(t *testing.T) proc.ID {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("root is needed")
		}
		t.Skip("root is needed")
	}
	cmd := exec.Command("tail", "-f", "/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	id, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func command(t *testing.T, id proc.ID, args ...string) *exec.Cmd {
	path, argv, err := Place{Process: id}.Command(args)
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{Path: path, Args: argv}
}

func TestRunsInTheNamespaces(t *testing.T) {
	id := node(t)
	out, err := command(t, id, "sh", "-c", "for n in mnt net uts ipc pid cgroup; do readlink /proc/self/ns/$n; done").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var want bytes.Buffer
	for _, name := range []string{"mnt", "net", "uts", "ipc", "pid", "cgroup"} {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", id.PID, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&want, ns)
	}
	if string(out) != want.String() {
		t.Errorf("got %s, want %s", out, want.String())
	}
}

func TestExitCode(t *testing.T) {
	id := node(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137} {
		cmd := command(t, id, "sh", "-c", script)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: %d, want %d", script, got, want)
		}
	}
	cmd := command(t, id, "no-such-program")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "no-such-program") {
		t.Errorf("%d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestProgramEndsWithTheOneOutside(t *testing.T) {
	id := node(t)
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := command(t, id, "sh", "-c", "echo started; exec tail -f /dev/null")
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if _, err := r.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := r.Read(make([]byte, 1)); n != 0 || os.IsTimeout(err) { // the pipe ends with the last that has it
			t.Errorf("after %s the program lives on", signal)
		}
	}
}

func TestEndedNode(t *testing.T) {
	gone := proc.ID{PID: os.Getpid(), Start: 1}
	if out, err := command(t, gone, "true").CombinedOutput(); err == nil || !strings.Contains(string(out), "has ended") {
		t.Errorf("%v: %s", err, out)
	}
}
