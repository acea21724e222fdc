package keeper

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/redirect"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// running runs something until stop, or the end of the test.
func running(t *testing.T, what string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// machine is a node with a real kernel and a real controller: the pod web, and a peer outside of the mesh.
type machine struct {
	t         *testing.T
	dir       string
	kernel    redirect.Config
	cfg       Config
	world     *compile.World
	yaml      *compile.Dir
	addr      string // the controller's
	web, peer *redirect.NetNS
	stopPlane func()
}

var (
	webAddr  = netip.MustParseAddr("10.98.1.1")
	peerAddr = netip.MustParseAddr("10.98.1.2")
)

func newMachine(t *testing.T) *machine {
	t.Helper()
	requireRoot(t)
	dir, err := os.MkdirTemp("", "fk") // t.TempDir is closed to the child's uid
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	m := &machine{t: t, dir: dir}
	bpffs := filepath.Join(dir, "bpf")
	for _, d := range []string{"bpf", "netns", "yaml"} {
		check(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	check(t, unix.Mount("none", bpffs, "bpf", 0, "mode=0700"))
	t.Cleanup(func() {
		if err := unix.Unmount(bpffs, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m.kernel = redirect.Config{BPFFS: bpffs, Instance: "k", NetNSDir: filepath.Join(dir, "netns"), Drain: time.Second}
	t.Cleanup(func() {
		if err := redirect.CleanUp(m.kernel); err != nil {
			t.Error(err)
		}
	})
	m.web, m.peer = m.netns("web"), m.netns("peer")
	check(t, m.web.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(m.peer.FD())})
	}))
	check(t, m.web.Do(func() error { return up(webAddr) }))
	check(t, m.peer.Do(func() error { return up(peerAddr) }))
	m.plane()
	return m
}

// netns makes a namespace with a name, as a runtime does.
func (m *machine) netns(name string) *redirect.NetNS {
	m.t.Helper()
	path := filepath.Join(m.dir, "netns", name)
	check(m.t, os.WriteFile(path, nil, 0o600))
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	check(m.t, <-made)
	m.t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) }) // a test may have done it
	ns, err := redirect.OpenNetNS(path)
	check(m.t, err)
	m.t.Cleanup(func() { ns.Close() })
	return ns
}

func up(a netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(netlink.LinkSetUp(lo), netlink.AddrAdd(eth, addr), netlink.LinkSetUp(eth))
}

// plane is the control plane over a directory of YAML.
func (m *machine) plane() {
	t := m.t
	td, err := identity.ParseTrustDomain("cluster.local")
	check(t, err)
	ca, err := identity.NewCA(td)
	check(t, err)
	m.world = compile.NewWorld(compile.Config{})
	m.yaml = compile.NewDir(compile.DirConfig{Path: filepath.Join(m.dir, "yaml"), World: m.world})
	bundle, err := identity.ParseBundle(td, ca.RootPEM())
	check(t, err)
	id, err := identity.ControllerID(td)
	check(t, err)
	own, err := ca.Issue(identity.Request{ID: id, TTL: time.Hour})
	check(t, err)
	tokens, err := control.ParseTokens([]byte(node + " secret\n"))
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	m.addr = l.Addr().String()
	server := control.NewServer(control.Config{World: m.world, CA: ca, Bundle: bundle, Source: identity.Static{Cert: own},
		Tokens: tokens.Node, WarmUp: time.Second, Leave: time.Second, StateEvery: time.Millisecond})
	m.stopPlane = running(t, "controller", func(ctx context.Context) error { return server.Run(ctx, l) })

	nodeBundle, err := identity.ParseBundle(td, ca.RootPEM())
	check(t, err)
	m.cfg = Config{
		Node: node, Bundle: nodeBundle, Token: func() (string, error) { return "secret", nil },
		StateDir: filepath.Join(m.dir, "state"), KeysDir: filepath.Join(m.dir, "keys"),
		ProxySocket: filepath.Join(m.dir, "proxy.sock"), CNISocket: filepath.Join(m.dir, "cni.sock"),
		ProxyUID: 65534, NetNSDir: filepath.Join(m.dir, "netns"), Away: 10 * time.Second,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	m.cfg.Connect, err = Control(m.addr, m.cfg)
	check(t, err)
}

// say writes the cluster's objects.
func (m *machine) say(labels string) {
	m.t.Helper()
	text := fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {%s}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: aaaa-web}
spec: {serviceAccountName: web, nodeName: %s, containers: [{name: c, image: i}]}
status: {phase: Running}
`, labels, node)
	check(m.t, os.WriteFile(filepath.Join(m.dir, "yaml", "all.yaml"), []byte(text), 0o600))
	check(m.t, m.yaml.Load())
}

// keep runs a keeper over the kernel.
func (m *machine) keep() (stop func()) {
	m.t.Helper()
	r, err := redirect.Open(m.kernel)
	check(m.t, err)
	m.cfg.Redirect = Kernel{R: r}
	k, err := Open(m.cfg)
	check(m.t, err)
	return running(m.t, "keeper", func(ctx context.Context) error { return errors.Join(k.Run(ctx), r.Close()) })
}

// add is what the plugin does, until the runtime would give up.
func (m *machine) add() {
	m.t.Helper()
	q := &cni.Request{Command: cni.Add, ContainerID: "c1", IfName: "eth0", Network: "n", NetNSPath: filepath.Join(m.dir, "netns", "web"),
		Pod: cni.Pod{Namespace: "shop", Name: "web", UID: "aaaa-web"}, Addresses: []netip.Addr{webAddr}, Budget: 5000}
	f, err := os.Open(q.NetNSPath)
	check(m.t, err)
	defer f.Close()
	var last error
	defer func() {
		if last != nil {
			m.t.Log("ADD:", last)
		}
	}()
	eventually(m.t, "ADD is granted", func() bool { last = cni.Call(m.t.Context(), m.cfg.CNISocket, q, f); return last == nil })
	var took []time.Duration
	for range 20 { // and again, as fast as it is for a pod that is named already
		start := time.Now()
		check(m.t, cni.Call(m.t.Context(), m.cfg.CNISocket, q, f))
		took = append(took, time.Since(start))
	}
	m.t.Logf("ADD took %v", took)
}

// proxy runs the child as uid 65534 without any capability.
func (m *machine) proxy() (*lines, func()) {
	m.t.Helper()
	self, err := os.Executable()
	check(m.t, err)
	binary, err := os.ReadFile(self)
	check(m.t, err)
	path := filepath.Join(m.dir, "proxy.test") // where that uid can read it
	check(m.t, os.WriteFile(path, binary, 0o755))
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), childSocket+"="+m.cfg.ProxySocket, childController+"="+m.addr)
	cmd.Dir = m.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	check(m.t, err)
	out, err := cmd.StdoutPipe()
	check(m.t, err)
	cmd.Stderr = cmd.Stdout
	check(m.t, cmd.Start())
	l := &lines{}
	read := make(chan struct{})
	go func() { defer close(read); l.read(out) }()
	stop := sync.OnceFunc(func() {
		in.Close()
		<-read
		_ = cmd.Wait()
		if m.t.Failed() {
			m.t.Logf("the proxy said:\n%s", l)
		}
	})
	m.t.Cleanup(stop)
	return l, stop
}

// app is a server in a namespace that tells each client its address, then echoes.
func (m *machine) app(ns *redirect.NetNS, addr string) {
	m.t.Helper()
	var l net.Listener
	check(m.t, ns.Do(func() (err error) { l, err = net.Listen("tcp", addr); return err }))
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(c, "you are %v\n", c.RemoteAddr())
				_, _ = io.Copy(c, c)
			})
		}
	})
	m.t.Cleanup(func() { l.Close(); conns.Wait() })
}

func dialIn(ns *redirect.NetNS, to string) (c net.Conn, err error) {
	err = ns.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", to)
		return err
	})
	if err == nil {
		err = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return c, err
}

// ask returns the first line that a server says.
func ask(t *testing.T, ns *redirect.NetNS, to string) string {
	t.Helper()
	c, err := dialIn(ns, to)
	check(t, err)
	defer c.Close()
	line, err := bufio.NewReader(io.LimitReader(c, 256)).ReadString('\n')
	if err != nil {
		t.Fatalf("ask %s: %q, %v", to, line, err)
	}
	return line
}

// The whole keeper with a real kernel, a real controller, and a proxy without any privilege.
func TestNode(t *testing.T) {
	m := newMachine(t)
	m.say("fairlead.io/mesh: enabled")
	m.app(m.web, webAddr.String()+":9000")
	m.app(m.peer, peerAddr.String()+":7000")
	stopKeeper := m.keep()
	m.add()
	said, stopProxy := m.proxy()
	wait := func(line string, times int) {
		t.Helper()
		eventually(t, "the proxy says "+line, func() bool { return said.count(line) >= times })
	}
	wait("caps 0000000000000000 uid 65534", 1)
	wait("enrolled shop/web shop/web 2", 1)
	wait("certificate / <nil>", 1)
	wait("certificate shop/web <nil>", 1)

	if got := ask(t, m.web, peerAddr.String()+":7000"); !strings.HasPrefix(got, "you are 10.98.1.1:") {
		t.Errorf("out: %q", got)
	}
	wait("out 10.98.1.2:7000", 1)
	wait("out mark operation not permitted", 1)
	if got := ask(t, m.peer, webAddr.String()+":9000"); !strings.HasPrefix(got, "you are 10.98.1.2:") {
		t.Errorf("in: %q", got)
	}
	wait("in 10.98.1.1:9000", 1)
	wait("in mark operation not permitted", 1)
	m.handshake()
	wait("saved <nil>", 1)
	eventually(t, "the controller knows the pod as captured", func() bool {
		for _, p := range m.world.Delta(0, nil).Pods {
			if p.UID == "aaaa-web" && p.InMesh {
				return true
			}
		}
		return false
	})

	// The keeper restarts with the controller away: live connections go on, and the running proxy gets new listeners.
	live, err := dialIn(m.web, peerAddr.String()+":7000")
	check(t, err)
	defer live.Close()
	r := bufio.NewReader(live)
	_, err = r.ReadString('\n')
	check(t, err)
	m.stopPlane()
	stopKeeper()
	wait("keeper gone", 1)
	stopKeeper = m.keep()
	wait("enrolled shop/web shop/web 2", 2)
	wait("state <nil>", 1)
	fmt.Fprintln(live, "still there")
	if line, err := r.ReadString('\n'); err != nil || line != "still there\n" {
		t.Errorf("live connection: %q, %v", line, err)
	}
	ask(t, m.web, peerAddr.String()+":7000")
	m.handshake()

	// Without a proxy, what connects waits in the listener until the next one takes it.
	stopProxy()
	waiting, err := dialIn(m.web, peerAddr.String()+":7000")
	check(t, err)
	defer waiting.Close()
	said, _ = m.proxy()
	if line, err := bufio.NewReader(waiting).ReadString('\n'); err != nil || !strings.HasPrefix(line, "you are") {
		t.Errorf("connection that waited: %q, %v", line, err)
	}

	// DEL: as if it had never been.
	check(t, cni.Call(t.Context(), m.cfg.CNISocket, &cni.Request{Command: cni.Del, ContainerID: "c1", IfName: "eth0"}, nil))
	wait("left aaaa-web 0s", 1)
	before := said.count("out 10.98.1.2:7000")
	ask(t, m.web, peerAddr.String()+":7000")
	if n := said.count("out 10.98.1.2:7000"); n != before {
		t.Error("captured after DEL")
	}
	stopKeeper()
}

// handshake is a real TLS 1.3 handshake with the pod, as its account, checked as a peer in the mesh does.
func (m *machine) handshake() {
	m.t.Helper()
	c, err := dialIn(m.peer, webAddr.String()+":8443")
	check(m.t, err)
	defer c.Close()
	id, err := identity.AccountID(m.cfg.Bundle.TrustDomain(), shop)
	check(m.t, err)
	client := tls.Client(c, identity.ClientTLS(nil, m.cfg.Bundle, identity.OnlyIDOn(id, node)))
	line, err := bufio.NewReader(client).ReadString('\n')
	if err != nil || line != "hello\n" {
		m.t.Errorf("handshake: %q, %v", line, err)
	}
	if v := client.ConnectionState().Version; v != tls.VersionTLS13 {
		m.t.Errorf("TLS version %#x", v)
	}
}
