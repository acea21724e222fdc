package testnet

import (
	"context"
	"encoding/json"

	"github.com/containernetworking/cni/libcni"
)

// addByPluginAlone calls our plugin's ADD for a pod that has its network already.
func addByPluginAlone(ctx context.Context, p *Pod) error {
	prev, err := p.Node.runtime().GetNetworkListCachedResult(&libcni.NetworkConfigList{Name: "lab", CNIVersion: "1.1.0"}, p.runtimeConf("eth0"))
	if err != nil {
		return err
	}
	entry := p.Node.PluginEntry()
	entry["cniVersion"], entry["name"], entry["prevResult"] = "1.1.0", "alone", prev
	b, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	conf, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return err
	}
	return p.Node.netns.do(func() error {
		_, err := p.Node.runtime().AddNetwork(ctx, conf, p.runtimeConf("eth0"))
		return err
	})
}
