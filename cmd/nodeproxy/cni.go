package main

import (
	"flag"
	"path/filepath"
	"strings"

	"fairlead.io/fairlead/internal/cni/install"
)

// cniFlags say where the node's runtime keeps its network plugins. Without --cni-conf-dir nothing is installed.
type cniFlags struct {
	binDir, confDir, plugin, system string
}

func (c *cniFlags) add(set *flag.FlagSet) {
	set.StringVar(&c.confDir, "cni-conf-dir", "", "the runtime's directory of network configurations: our plugin is chained there, and kept there")
	set.StringVar(&c.binDir, "cni-bin-dir", "/opt/cni/bin", "the runtime's directory of network plugins, with --cni-conf-dir")
}

// addInstall adds the flags that only the installation needs.
func (c *cniFlags) addInstall(set *flag.FlagSet) {
	set.StringVar(&c.plugin, "cni-plugin", "/cni-plugin", "our plugin's binary, to be copied to --cni-bin-dir")
	set.StringVar(&c.system, "cni-system-namespaces", "", "namespaces, parted by commas, whose pods never wait for us (default: those of the plugin)")
}

// config is the installer's. socket and state are the keeper's as the node sees them.
func (c *cniFlags) config(socket, state string) (install.Config, error) {
	socket, err := filepath.Abs(socket)
	if err != nil {
		return install.Config{}, err
	}
	if state, err = filepath.Abs(state); err != nil {
		return install.Config{}, err
	}
	entry := map[string]any{"socket": socket, "stateDir": state}
	if names := strings.FieldsFunc(c.system, func(r rune) bool { return r == ',' }); len(names) > 0 {
		entry["systemNamespaces"] = names
	}
	return install.Config{BinDir: c.binDir, ConfDir: c.confDir, Plugin: c.plugin, Entry: entry}, nil
}
