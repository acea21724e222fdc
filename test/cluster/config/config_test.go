package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func cluster() Cluster { return Cluster{Name: "lab", Nodes: 2, KubeProxy: "nftables", Port: 16443} }

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Cluster){
		"no name": func(c *Cluster) { c.Name = "" }, "a path for a name": func(c *Cluster) { c.Name = "../x" },
		"no nodes": func(c *Cluster) { c.Nodes = 0 }, "too many nodes": func(c *Cluster) { c.Nodes = MaxNodes + 1 },
		"ipvs": func(c *Cluster) { c.KubeProxy = "ipvs" }, "no port": func(c *Cluster) { c.Port = 0 },
	} {
		c := cluster()
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := cluster().Check(); err != nil {
		t.Error(err)
	}
}

func TestNodesDoNotOverlap(t *testing.T) {
	c := cluster()
	c.Nodes, c.DualStack = MaxNodes, true
	var all []string
	for _, n := range c.All() {
		for family := range n.Pods {
			all = append(all, n.Addresses[family].Addr().String(), n.Pods[family].String())
			if !c.PodNetworks()[family].Contains(n.Pods[family].Addr()) || !c.Switch()[family].Contains(n.Addresses[family].Addr()) {
				t.Errorf("%s: %s or %s is outside of the cluster's networks", n.Name, n.Pods[family], n.Addresses[family])
			}
		}
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 4*MaxNodes {
		t.Errorf("two nodes share an address or network: %q", all)
	}
	for family, services := range c.Services() {
		if services.Overlaps(c.PodNetworks()[family]) {
			t.Errorf("%s overlaps", services)
		}
	}
	if !c.Services()[0].Contains(c.DNS()) {
		t.Error("the DNS is no service")
	}
}

func TestEverythingRenders(t *testing.T) {
	for _, dual := range []bool{false, true} {
		c := cluster()
		c.DualStack = dual
		for _, n := range c.All() {
			files, err := c.Files(n)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(files["kubelet.yaml"]), "kubelet-"+n.Name+".crt") {
				t.Errorf("%s: not its own certificate", n.Name)
			}
		}
		objects, err := c.Objects()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(objects), "\nkind: Node\n"); got != c.Nodes {
			t.Errorf("%d Node objects of %d", got, c.Nodes)
		}
	}
}

func TestCNIConfig(t *testing.T) {
	for dual, want := range map[bool][]string{false: {"10.244.2.0/24"}, true: {"10.244.2.0/24", "fd00:10:244:2::/64"}} {
		c := cluster()
		c.DualStack = dual
		_, content, err := c.CNIConfig(c.Node(2))
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Plugins []struct {
				IPAM struct{ Ranges [][]struct{ Subnet string } }
			}
		}
		if err := json.Unmarshal(content, &list); err != nil {
			t.Fatalf("%v in %s", err, content)
		}
		var got []string
		for _, r := range list.Plugins[0].IPAM.Ranges {
			got = append(got, r[0].Subnet)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestControlPlaneIsOnTheFirstNode(t *testing.T) {
	c := cluster()
	want := map[string][]string{
		"n1": {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet", "kube-proxy"},
		"n2": {"containerd", "kubelet", "kube-proxy"},
	}
	for _, n := range c.All() {
		var got []string
		for _, s := range c.ServicesOf(n) {
			got = append(got, s.Name)
			if s.Args[0] != s.Name {
				t.Errorf("service %s runs %s", s.Name, s.Args[0])
			}
			if s.Name != "containerd" && !slices.Contains(Programs, s.Name) {
				t.Errorf("%s is not linked on nodes", s.Name)
			}
		}
		if diff := cmp.Diff(want[n.Name], got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDualStackIsInTheFlags(t *testing.T) {
	c := cluster()
	c.DualStack = true
	flags := fmt.Sprint(c.ServicesOf(c.Node(1)))
	for _, want := range []string{"--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112", "--node-ip=10.89.0.11,fd00:10:89::11",
		"--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"} {
		if !strings.Contains(flags, want) {
			t.Errorf("no %s in %s", want, flags)
		}
	}
}
