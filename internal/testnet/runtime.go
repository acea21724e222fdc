package testnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

const loopbackConf = `{"cniVersion":"1.1.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}`

// networkConf is the configuration that a runtime uses: the lexically first valid one.
func (n *Node) networkConf() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.ConfDir(), []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var errs []error
	for _, file := range files {
		list, err := libcni.NetworkConfFromFile(file)
		if err == nil && len(list.Plugins) > 0 {
			return list, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, errors.New("no network configuration"))...)
}

func (n *Node) runtime() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{n.BinDir()}, n.path("cni-cache"), nil)
}

func (p *Pod) runtimeConf(ifName string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.container, NetNS: p.link, IfName: ifName, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", p.Namespace}, {"K8S_POD_NAME", p.Name},
		{"K8S_POD_INFRA_CONTAINER_ID", p.container}, {"K8S_POD_UID", p.UID}}}
}

// addNetwork is what a runtime does at RunPodSandbox, and kubelet's retries.
func (p *Pod) addNetwork(ctx context.Context, retry time.Duration) error {
	until := time.Now().Add(retry)
	for {
		err := p.addOnce(ctx)
		var refused *types.Error
		if err == nil || !errors.As(err, &refused) || refused.Code != types.ErrTryAgainLater || time.Now().After(until) {
			return err
		}
		if err := p.delNetwork(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Pod) addOnce(ctx context.Context) error {
	loopback, err := libcni.NetworkConfFromBytes([]byte(loopbackConf))
	if err != nil {
		return err
	}
	list, err := p.Node.networkConf()
	if err != nil {
		return err
	}
	return p.Node.netns.do(func() error {
		if _, err := p.Node.runtime().AddNetworkList(ctx, loopback, p.runtimeConf("lo")); err != nil {
			return fmt.Errorf("cni add lo: %w", err)
		}
		result, err := p.Node.runtime().AddNetworkList(ctx, list, p.runtimeConf("eth0"))
		if err != nil {
			return fmt.Errorf("cni add eth0: %w", err)
		}
		return p.takeAddrs(result)
	})
}

func (p *Pod) takeAddrs(result types.Result) error {
	r, err := types100.GetResult(result)
	if err != nil {
		return err
	}
	p.Addrs = nil
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			p.Addrs = append(p.Addrs, a.Unmap())
		}
	}
	slices.SortFunc(p.Addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return nil
}

func (p *Pod) delNetwork(ctx context.Context) error {
	loopback, err := libcni.NetworkConfFromBytes([]byte(loopbackConf))
	if err != nil {
		return err
	}
	list, err := p.Node.networkConf()
	if err != nil {
		return err
	}
	return p.Node.netns.do(func() error {
		if err := p.Node.runtime().DelNetworkList(ctx, list, p.runtimeConf("eth0")); err != nil {
			return fmt.Errorf("cni del eth0: %w", err)
		}
		if err := p.Node.runtime().DelNetworkList(ctx, loopback, p.runtimeConf("lo")); err != nil {
			return fmt.Errorf("cni del lo: %w", err)
		}
		return nil
	})
}

// Check calls CNI CHECK for the pod.
func (p *Pod) Check(ctx context.Context) error {
	list, err := p.Node.networkConf()
	if err != nil {
		return err
	}
	return p.Node.netns.do(func() error { return p.Node.runtime().CheckNetworkList(ctx, list, p.runtimeConf("eth0")) })
}

// GC calls CNI GC for the node's network with the pods that still live, and Status CNI STATUS.
func (n *Node) GC(ctx context.Context) error {
	list, err := n.networkConf()
	if err != nil {
		return err
	}
	var valid []types.GCAttachment
	n.lab.mu.Lock()
	for _, p := range n.lab.world.live {
		if p.Node == n {
			valid = append(valid, types.GCAttachment{ContainerID: p.container, IfName: "eth0"})
		}
	}
	n.lab.mu.Unlock()
	return n.netns.do(func() error { return n.runtime().GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: valid}) })
}

// Status calls CNI STATUS for the node's network.
func (n *Node) Status(ctx context.Context) error {
	list, err := n.networkConf()
	if err != nil {
		return err
	}
	return n.netns.do(func() error { return n.runtime().GetStatusNetworkList(ctx, list) })
}
