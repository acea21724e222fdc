package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MeshConfig says how the product is started in a lab. The zero value is useful.
type MeshConfig struct {
	Bin         string // the directory of the product's programs
	TrustDomain string // default "cluster.local"
	// More arguments for each program.
	ControllerArgs, KeeperArgs, ProxyArgs []string
	// KubeletCgroup tells keepers the cgroup by which they know a kubelet's probes: that of programs on the node with
	// Command.Cgroup KubeletCgroup. Else they are told the node's addresses alone.
	KubeletCgroup bool
	// InstallCNI has each keeper install our plugin on its node, as in a cluster. For labs without Config.CNIPlugin.
	InstallCNI bool
	Ready      time.Duration // how long to wait for all of it; default 30 s
}

// Mesh is the product at work in a lab: a controller, and a keeper and a proxy on every node.
type Mesh struct {
	Lab        *Lab
	Controller *Process
	Nodes      []*MeshNode
	cfg        MeshConfig
}

// MeshNode is the product on one node.
type MeshNode struct {
	*Node
	Keeper, Proxy *Process
	mesh          *Mesh
	generation    int // how many have been there before, in updates
}

// The ports that the product listens on.
const (
	controllerPort = 9902
	adminPort      = 9901
)

// StartMesh starts the product on every node and waits until the proxies are ready.
func (l *Lab) StartMesh(ctx context.Context, cfg MeshConfig) (*Mesh, error) {
	if cfg.TrustDomain == "" {
		cfg.TrustDomain = "cluster.local"
	}
	if cfg.Ready == 0 {
		cfg.Ready = 30 * time.Second
	}
	m := &Mesh{Lab: l, cfg: cfg}
	if err := m.writeTokens(); err != nil {
		return nil, fmt.Errorf("write join tokens: %w", err)
	}
	if err := m.StartController(); err != nil {
		return nil, err
	}
	for _, n := range l.nodes {
		mn := &MeshNode{Node: n, mesh: m}
		m.Nodes = append(m.Nodes, mn)
		if err := errors.Join(mn.StartKeeper(ctx), mn.StartProxy()); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Ready)
	defer cancel()
	for _, n := range m.Nodes {
		if err := errors.Join(n.WaitReady(ctx), n.waitPlugin(ctx)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Mesh) path(name string) string { return filepath.Join(m.Lab.dir, name) }

// roots is where the controller leaves the trust domain's roots; an installation has them in a ConfigMap.
func (m *Mesh) roots() string { return filepath.Join(m.path("ca"), "ca.crt") }

// writeTokens gives each node the secret that it joins with.
func (m *Mesh) writeTokens() error {
	var all strings.Builder
	for _, n := range m.Lab.nodes {
		token := newID(32)
		fmt.Fprintf(&all, "%s %s\n", n.Name, token)
		if err := os.WriteFile(n.path("token"), []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(m.path("tokens"), []byte(all.String()), 0o600)
}

// StartController starts the controller, also after it was ended.
func (m *Mesh) StartController() error {
	p, err := m.Lab.StartController(filepath.Join(m.cfg.Bin, "controller"), append([]string{
		"--source=dir:" + m.Lab.KubeDir(), "--trust-domain=" + m.cfg.TrustDomain, "--ca-dir=" + m.path("ca"),
		"--tokens=" + m.path("tokens"), fmt.Sprintf("--listen=:%d", controllerPort)}, m.cfg.ControllerArgs...)...)
	if err != nil {
		return fmt.Errorf("start controller: %w", err)
	}
	m.Controller = p
	return nil
}

// controllerAddr is where nodes reach the controller.
func (m *Mesh) controllerAddr() string {
	return netip.AddrPortFrom(m.Lab.control.Addrs[0], controllerPort).String()
}

// StartKeeper starts the node's keeper, also after it was ended.
func (n *MeshNode) StartKeeper(ctx context.Context) error {
	if err := waitFile(ctx, n.mesh.roots(), 10*time.Second); err != nil {
		return fmt.Errorf("wait for the roots: %w", err)
	}
	args := []string{"keeper", "--node=" + n.Name, "--controller=" + n.mesh.controllerAddr(), "--trust-domain=" + n.mesh.cfg.TrustDomain,
		"--roots=" + n.mesh.roots(), "--token-file=" + n.path("token"), "--state=" + n.StateDir(), "--keys=" + n.KeysDir(),
		"--run=" + n.RunDir(), "--proxy-dir=" + n.proxyDir(), "--bpffs=" + n.BPFFS(), "--instance=" + n.Name, "--cgroup=" + cgroupRoot(), "--netns-dir=" + n.NetNSDir(), fmt.Sprintf("--proxy-uid=%d", ProxyUID)}
	for _, a := range n.Addrs {
		args = append(args, "--node-address="+a.String())
	}
	if n.mesh.cfg.KubeletCgroup {
		dir, err := openCgroup(filepath.Join(n.Cgroup(), KubeletCgroup))
		if err != nil {
			return err
		}
		defer dir.Close()
		args = append(args, "--kubelet-cgroup="+dir.Name(), "--host-netns="+n.NetNS())
	}
	args = append(args, n.cniArgs()...)
	if n.mesh.cfg.InstallCNI {
		args = append(args, "--cni-plugin="+filepath.Join(n.mesh.cfg.Bin, "cni-plugin"))
	}
	p, err := n.Node.StartKeeper(filepath.Join(n.mesh.cfg.Bin, "nodeproxy"), append(args, n.mesh.cfg.KeeperArgs...)...)
	if err != nil {
		return fmt.Errorf("start keeper of %s: %w", n.Name, err)
	}
	n.Keeper = p
	return nil
}

// Surge starts a keeper and a proxy beside those of the node, as an update does: with a directory and a port of their own where
// two pods would have them, and all else in common. They take the node's place in the mesh, and the earlier ones are returned.
func (m *Mesh) Surge(ctx context.Context, i int) (earlier *MeshNode, err error) {
	earlier = m.Nodes[i]
	next := &MeshNode{Node: earlier.Node, mesh: m, generation: earlier.generation + 1}
	if err := next.StartKeeper(ctx); err != nil {
		return nil, err
	}
	m.Nodes[i] = next
	return earlier, next.StartProxy()
}

// proxyDir is what keeper and proxy of one generation have for themselves: in a pod, a volume of its own.
func (n *MeshNode) proxyDir() string {
	return filepath.Join(n.RunDir(), fmt.Sprintf("proxy-%d", n.generation))
}

// Ready asks the keeper as the kubelet's probe does.
func (n *MeshNode) Ready(ctx context.Context) error {
	_, err := n.Run(ctx, Command{Path: filepath.Join(n.mesh.cfg.Bin, "nodeproxy"),
		Args: []string{"keeper-ready", "--run=" + n.RunDir(), "--proxy-dir=" + n.proxyDir()}})
	return err
}

// cniArgs tell keeper and cleanup where the node's network plugins are.
func (n *MeshNode) cniArgs() []string {
	if !n.mesh.cfg.InstallCNI {
		return nil
	}
	return []string{"--cni-conf-dir=" + n.ConfDir(), "--cni-bin-dir=" + n.BinDir()}
}

// waitPlugin waits until the keeper has installed our plugin, if it is to.
func (n *MeshNode) waitPlugin(ctx context.Context) error {
	for n.mesh.cfg.InstallCNI {
		found, err := n.pluginInstalled()
		if err != nil || found {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the CNI plugin on %s: %w", n.Name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// pluginInstalled looks for our plugin in the node's network configurations.
func (n *MeshNode) pluginInstalled() (bool, error) {
	files, err := filepath.Glob(filepath.Join(n.ConfDir(), "*.conflist"))
	if err != nil {
		return false, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		if bytes.Contains(b, []byte(`"`+pluginType+`"`)) {
			return true, nil
		}
	}
	return false, nil
}

// StartProxy starts the node's proxy, also after it was ended.
func (n *MeshNode) StartProxy() error {
	args := []string{"proxy", "--node=" + n.Name, "--controller=" + n.mesh.controllerAddr(),
		"--keeper=" + filepath.Join(n.proxyDir(), "proxy.sock"), fmt.Sprintf("--admin=:%d", adminPort+n.generation), "--drain=0s"}
	p, err := n.Node.StartProxy(filepath.Join(n.mesh.cfg.Bin, "nodeproxy"), append(args, n.mesh.cfg.ProxyArgs...)...)
	if err != nil {
		return fmt.Errorf("start proxy of %s: %w", n.Name, err)
	}
	n.Proxy = p
	return nil
}

// Admin asks the node's proxy: "/metrics", "/readyz", "/debug/routes".
func (n *MeshNode) Admin(ctx context.Context, path string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return n.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", adminPort+n.generation))
	}}, Timeout: 5 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the proxy of %s: %w", n.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("ask the proxy of %s: %w", n.Name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s of %s: %s: %s", path, n.Name, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// WaitReady waits until the node's proxy says that it is ready.
func (n *MeshNode) WaitReady(ctx context.Context) error {
	for {
		_, err := n.Admin(ctx, "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-n.Proxy.Done():
			return fmt.Errorf("proxy of %s ended: %w", n.Name, n.Proxy.err)
		case <-n.Keeper.Done():
			return fmt.Errorf("keeper of %s ended: %w", n.Name, n.Keeper.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the proxy of %s: %w", n.Name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Cleanup takes back what the product left in the kernel on this node. Keeper and proxy must have ended.
func (n *MeshNode) Cleanup(ctx context.Context) error {
	_, err := n.Run(ctx, Command{Path: filepath.Join(n.mesh.cfg.Bin, "nodeproxy"),
		Args: append([]string{"cleanup", "--bpffs=" + n.BPFFS(), "--instance=" + n.Name, "--cgroup=" + cgroupRoot(), "--netns-dir=" + n.NetNSDir()}, n.cniArgs()...)})
	return err
}

// Stop ends the product on every node and takes back what it left in the kernel.
func (m *Mesh) Stop(ctx context.Context) error {
	var errs []error
	for _, n := range m.Nodes {
		errs = append(errs, n.Proxy.Stop(5*time.Second), n.Keeper.Stop(5*time.Second), n.Cleanup(ctx))
	}
	return errors.Join(append(errs, m.Controller.Stop(5*time.Second))...)
}

func cgroupRoot() string {
	root, err := cgroup2Root()
	if err != nil {
		return ""
	}
	return root
}

func waitFile(ctx context.Context, path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", path, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
