// Package config says what a cluster is made of, and writes it as its programs read it; pure.
package config

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"text/template"
)

// MaxNodes is bounded by what one machine carries.
const MaxNodes = 9

// Names of images that every cluster has.
const (
	PauseImage = "localhost/cluster/pause:latest"
	DNSImage   = "localhost/cluster/coredns:latest"
)

// Cluster is the cluster as it was asked for.
type Cluster struct {
	Name      string `json:"name"`
	Nodes     int    `json:"nodes"`
	KubeProxy string `json:"kubeProxy"` // nftables or iptables
	Port      uint16 `json:"port"`      // of the API server on 127.0.0.1
	DualStack bool   `json:"dualStack"` // IPv6 beside IPv4
}

// Check says what is wrong with it.
func (c Cluster) Check() error {
	switch {
	case c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(c.Name) > 32:
		return fmt.Errorf("name %q: want up to 32 of a-z, 0-9 and -", c.Name)
	case c.Nodes < 1 || c.Nodes > MaxNodes:
		return fmt.Errorf("%d nodes: want 1 to %d", c.Nodes, MaxNodes)
	case c.KubeProxy != "nftables" && c.KubeProxy != "iptables":
		return fmt.Errorf("kube-proxy %q: want nftables or iptables", c.KubeProxy)
	case c.Port == 0:
		return fmt.Errorf("port 0: want a port of 127.0.0.1")
	}
	return nil
}

// Node is one of its nodes. The first of each list is IPv4, a second IPv6.
type Node struct {
	Name      string
	Addresses []netip.Prefix
	Pods      []netip.Prefix
}

// APIPort is where the API server listens on the first node.
const APIPort = 6443

// families cuts a list to what the cluster has: IPv4, or both.
func families[T any](c Cluster, both ...T) []T {
	if c.DualStack {
		return both
	}
	return both[:1]
}

// Switch are the addresses of the switch.
func (c Cluster) Switch() []netip.Prefix {
	return families(c, netip.MustParsePrefix("10.89.0.1/24"), netip.MustParsePrefix("fd00:10:89::1/64"))
}

// PodNetworks hold the networks of all nodes' pods.
func (c Cluster) PodNetworks() []netip.Prefix {
	return families(c, netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"))
}

// Services are the networks of ClusterIPs.
func (c Cluster) Services() []netip.Prefix {
	return families(c, netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112"))
}

// Everything are the default routes' networks.
func (c Cluster) Everything() []netip.Prefix {
	return families(c, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}

// Node is the i-th, from 1.
func (c Cluster) Node(i int) Node {
	return Node{Name: fmt.Sprintf("n%d", i),
		Addresses: families(c, netip.MustParsePrefix(fmt.Sprintf("10.89.0.%d/24", 10+i)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:89::%d/64", 10+i))),
		Pods:      families(c, netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", i))),
	}
}

// All are the nodes.
func (c Cluster) All() []Node {
	var all []Node
	for i := range c.Nodes {
		all = append(all, c.Node(i+1))
	}
	return all
}

// API is where the API server listens in the cluster.
func (c Cluster) API() netip.AddrPort {
	return netip.AddrPortFrom(c.Node(1).Addresses[0].Addr(), APIPort)
}

// APIService is the ClusterIP of the API server: the first of the network.
func (c Cluster) APIService() netip.Addr { return c.Services()[0].Addr().Next() }

// DNS is the ClusterIP of CoreDNS.
func (c Cluster) DNS() netip.Addr { return netip.MustParseAddr("10.96.0.10") }

// Registry is where a registry on the switch would be found by all nodes, over plain HTTP.
func (c Cluster) Registry() string { return c.Switch()[0].Addr().String() + ":5000" }

//go:embed files
var files embed.FS

// view is what the templates see.
type view struct {
	Cluster
	Node Node
}

func (view) PauseImage() string { return PauseImage }
func (view) DNSImage() string   { return DNSImage }
func (v view) Nodes() []Node    { return v.All() }

// DNSReplicas lets names be found while a node is away.
func (v view) DNSReplicas() int { return min(2, v.Cluster.Nodes) }

// Files are the configuration files of a node, by their name below /etc/kubernetes.
func (c Cluster) Files(n Node) (map[string][]byte, error) {
	rendered := make(map[string][]byte)
	for name, file := range map[string]string{
		"kubelet.yaml":    "kubelet.yaml",
		"kube-proxy.yaml": "kube-proxy.yaml",
		"containerd.toml": "containerd.toml",
		path.Join("certs.d", c.Registry(), "hosts.toml"): "hosts.toml",
	} {
		b, err := c.render(file, n)
		if err != nil {
			return nil, err
		}
		rendered[name] = b
	}
	return rendered, nil
}

// CNIConfig is the node's first network configuration, and its name in /etc/cni/net.d.
func (c Cluster) CNIConfig(n Node) (name string, content []byte, err error) {
	const file = "10-cluster.conflist"
	content, err = c.render(file, n)
	return file, content, err
}

// Objects are what is in every cluster, as YAML.
func (c Cluster) Objects() ([]byte, error) { return c.render("cluster.yaml", Node{}) }

func (c Cluster) render(file string, n Node) ([]byte, error) {
	t := template.New(file).Option("missingkey=error").Funcs(template.FuncMap{"join": join})
	t, err := t.ParseFS(files, "files/"+file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, view{c, n}); err != nil {
		return nil, fmt.Errorf("render %s: %w", file, err)
	}
	return out.Bytes(), nil
}

// join writes networks or addresses as the programs' flags want them.
func join(prefixes []netip.Prefix) string {
	var all []string
	for _, p := range prefixes {
		all = append(all, p.String())
	}
	return strings.Join(all, ",")
}
