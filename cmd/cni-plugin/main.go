// Command cni-plugin is chained after the cluster's CNI plugin: it hands a new pod's network namespace to the node's
// keeper before the pod starts, and tells it when the pod ends. It keeps no state and never changes a result.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"fairlead.io/fairlead/internal/cni"
)

func main() {
	supported := version.PluginSupports(cni.SupportedVersions()...)
	skel.PluginMainFuncs(cni.Plugin{Stdout: os.Stdout}.Funcs(), supported, "CNI plugin of the Fairlead mesh")
}
