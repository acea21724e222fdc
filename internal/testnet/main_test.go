package testnet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The binaries that the tests run, built once.
var plugins string

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "look" {
		look()
		return
	}
	switch os.Getenv("TESTNET_ROLE") {
	case "serve":
		serve(os.Getenv("TESTNET_ARG"))
	case "ask":
		ask(os.Getenv("TESTNET_ARG"))
	case "look":
		look()
	case "lab":
		labOf(os.Getenv("TESTNET_ARG"))
	default:
		os.Exit(runTests(m))
	}
}

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "plugins")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	plugins = dir
	for _, err := range []error{BuildReferencePlugins(context.Background(), dir), Build(context.Background(), dir, "./cmd/cni-plugin")} {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// serve answers each connection with its name and the client's address, until it is killed.
func serve(addr string) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	name, _ := os.Hostname()
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		fmt.Fprintln(conn, name, host)
		conn.Close()
	}
}

// ask prints what a server answers.
func ask(addr string) {
	conn, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// look prints what a program sees of itself.
func look() {
	name, _ := os.Hostname()
	fmt.Println("host", name, "uid", os.Getuid(), "gid", os.Getgid())
	for _, path := range []string{"/etc/hosts", "/etc/resolv.conf", "/proc/self/status", "/proc/self/mountinfo"} {
		b, err := os.ReadFile(path)
		fmt.Println(path, err)
		os.Stdout.Write(b)
	}
}

// labOf makes a lab with a program in it, says where they are, and waits to be killed.
func labOf(plugins string) {
	lab, err := New(Config{Nodes: 1, Plugins: plugins})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	p, err := lab.Node(0).Start(role("serve", ":7000"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(p.PID(), lab.Dir(), lab.Cgroup())
	<-p.Done()
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// mustLab makes a lab that ends with the test.
func mustLab(t testing.TB, cfg Config) *Lab {
	t.Helper()
	needRoot(t)
	cfg.Plugins = plugins
	lab, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func mustPod(t testing.TB, n *Node, spec PodSpec) *Pod {
	t.Helper()
	p, err := n.AddPod(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type starter interface {
	Start(Command) (*Process, error)
}
type runner interface {
	Run(context.Context, Command) ([]byte, error)
}

func role(name, arg string) Command {
	return Command{Path: "/proc/self/exe", // The race detector would otherwise make every program end a second later.
		Env: []string{"TESTNET_ROLE=" + name, "TESTNET_ARG=" + arg, "GORACE=atexit_sleep_ms=0"}}
}

// mustServe starts a server and waits until it listens.
func mustServe(t testing.TB, on starter, addr string) *Process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := role("serve", addr)
	c.Stdout, c.Stderr = w, os.Stderr
	p, err := on.Start(c)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "ready\n" {
		t.Fatalf("server on %s: %q, %v", addr, line, err)
	}
	return p
}

// answer is what a server says to a client: its name and the client's address.
func answer(t testing.TB, from runner, addr string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := from.Run(ctx, role("ask", addr))
	return strings.TrimSpace(string(out)), err
}

func mustAnswer(t testing.TB, from runner, addr, want string) {
	t.Helper()
	got, err := answer(t, from, addr)
	if err != nil || got != want {
		t.Errorf("%s answered %q (%v), want %q", addr, got, err, want)
	}
}

// traces is what can be seen of a lab from outside of it: others may have labs of their own on this machine.
func traces(t testing.TB, dir, cgroup string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{cgroup, dir, "/sys/class/net/control", "/sys/class/net/n[12]", "/run/netns/*" + filepath.Base(dir) + "*"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+line)
		}
	}
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, path := range children {
		b, _ := os.ReadFile(path)
		for pid := range strings.FieldsSeq(string(b)) {
			found = append(found, "child "+pid)
		}
	}
	return found
}

// isUnused reports whether no process and no thread is in the namespace.
func isUnused(t testing.TB, inode uint64) bool {
	t.Helper()
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/*/ns/net")
	for _, path := range tasks {
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err == nil && st.Ino == inode {
			return false
		}
	}
	return true
}
