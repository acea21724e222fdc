package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// Conf is our entry of the network configuration, as it arrives on the plugin's stdin.
type Conf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`

	Socket   string `json:"socket,omitempty"`   // default DefaultSocket
	StateDir string `json:"stateDir,omitempty"` // default DefaultStateDir
	Timeout  string `json:"timeout,omitempty"`  // whole budget of a call, such as "5s"; default DefaultTimeout
	// SystemNamespaces always pass. Default DefaultSystemNamespaces; an empty list means none.
	SystemNamespaces []string `json:"systemNamespaces,omitempty"`

	// PrevResult is the result of the plugin before ours, byte for byte.
	PrevResult json.RawMessage      `json:"prevResult,omitempty"`
	Valid      []types.GCAttachment `json:"cni.dev/valid-attachments,omitempty"`

	timeout time.Duration
}

// ParseConf reads the plugin's stdin.
func ParseConf(stdin []byte) (*Conf, error) {
	c := &Conf{Socket: DefaultSocket, StateDir: DefaultStateDir, SystemNamespaces: DefaultSystemNamespaces(), timeout: DefaultTimeout}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "fairlead: the network configuration is not understood: "+err.Error(), "")
	}
	if c.Timeout != "" {
		d, err := time.ParseDuration(c.Timeout)
		if err != nil || d < time.Millisecond || d > maxTimeout {
			return nil, types.NewError(types.ErrInvalidNetworkConfig,
				fmt.Sprintf("fairlead: timeout %q is none between 1ms and %s", c.Timeout, maxTimeout), "")
		}
		c.timeout = d
	}
	if !filepath.IsAbs(c.Socket) || !filepath.IsAbs(c.StateDir) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "fairlead: socket and stateDir must be absolute paths", "")
	}
	return c, nil
}

// prev decodes the result of the plugins before ours. A chained plugin without one is misconfigured.
func (c *Conf) prev() (types.Result, error) {
	if len(c.PrevResult) == 0 || string(c.PrevResult) == "null" {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "fairlead: no prevResult",
			"this plugin only adds to others: it must stand after the cluster's CNI plugin in a .conflist")
	}
	// The plugin before may have left the version out; then it is the configuration's (libcni puts it in).
	result, err := version.NewResult(c.prevVersion(), c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "fairlead: prevResult: "+err.Error(), "")
	}
	return result, nil
}

func (c *Conf) prevVersion() string {
	var v struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(c.PrevResult, &v); err != nil || v.CNIVersion == "" {
		return c.CNIVersion
	}
	return v.CNIVersion
}

// output is what ADD prints: prevResult as it came, or converted when it came in another version than the configuration's.
func (c *Conf) output(prev types.Result) ([]byte, error) {
	var v struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(c.PrevResult, &v); err == nil && v.CNIVersion == c.CNIVersion {
		return c.PrevResult, nil
	}
	converted, err := prev.GetAsVersion(c.CNIVersion)
	if err != nil {
		return nil, types.NewError(types.ErrIncompatibleCNIVersion, "fairlead: prevResult: "+err.Error(), "")
	}
	return json.Marshal(converted)
}

// addresses are those that the plugins before ours gave to the pod, of its own interfaces where they are told apart.
func addresses(prev types.Result) ([]netip.Addr, error) {
	result, err := types100.GetResult(prev)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "fairlead: prevResult: "+err.Error(), "")
	}
	var list []netip.Addr
	for _, ip := range result.IPs {
		if ip.Interface != nil && *ip.Interface >= 0 && *ip.Interface < len(result.Interfaces) && result.Interfaces[*ip.Interface].Sandbox == "" {
			continue // an address of the host's end
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("fairlead: prevResult: address %q", ip.Address.IP), "")
		}
		list = append(list, a.Unmap())
	}
	if len(list) > maxAddresses {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("fairlead: prevResult: %d addresses", len(list)), "")
	}
	return list, nil
}
