package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"fairlead.io/fairlead/test/cluster/config"
)

// Versions of what has a module of its own. Those of Kubernetes, etcd, CoreDNS and Helm are in kubernetes/go.mod; the
// first is said here again, because its programs have to be told.
const (
	kubernetesVersion = "v1.37.2"
	containerdVersion = "v2.4.2"
	runcVersion       = "v1.5.2"
	pluginsVersion    = "v1.9.1"
)

// Debian packages whose files nodes have, and those that runc is linked with. Their own dependencies follow.
var (
	nodePackages = []string{"nftables", "iptables", "iproute2"}
	linkPackages = []string{"libseccomp-dev"}
)

// plugins are the CNI plugins that a node's network is made of, and those that a mesh may be chained to.
var plugins = []string{"main/bridge", "main/ptp", "main/loopback", "ipam/host-local", "meta/portmap", "meta/firewall"}

// step makes one directory of the cache, of its name.
type step struct {
	name, about string
	run         func(*work, context.Context) error
}

var steps = []step{
	{"packages", "Debian packages for nodes, unpacked", (*work).packages},
	{"kubernetes", "Kubernetes " + kubernetesVersion + " and etcd, the longest: 10 to 25 minutes with cold caches", (*work).kubernetes},
	{"coredns", "CoreDNS", (*work).coredns},
	{"helm", "Helm", (*work).helm},
	{"containerd", "containerd " + containerdVersion, (*work).containerd},
	{"runc", "runc " + runcVersion, (*work).runc},
	{"plugins", "CNI plugins " + pluginsVersion, (*work).plugins},
	{"images", "images of pause and CoreDNS", (*work).images},
}

// recipe is all that a build depends on beside the module of Kubernetes, as text. recipeVersion is raised by whoever changes
// what a step does otherwise than by what is listed.
func recipe() string {
	const recipeVersion = 1
	return fmt.Sprint(recipeVersion, kubernetesVersion, containerdVersion, runcVersion, pluginsVersion,
		nodePackages, linkPackages, plugins, config.Programs, config.PauseImage, config.DNSImage, containerdTags, runcTags, versionFlags())
}

const (
	strip          = "-s -w"
	containerdTags = "no_btrfs,no_zfs,no_devmapper,netgo,osusergo"
	runcTags       = "seccomp,netgo,osusergo"
)

// versionFlags tell Kubernetes' programs their version, which clients compare.
func versionFlags() string {
	parts := strings.SplitN(strings.TrimPrefix(kubernetesVersion, "v"), ".", 3)
	flags := []string{strip}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags = append(flags, "-X "+pkg+".gitVersion="+kubernetesVersion, "-X "+pkg+".gitMajor="+parts[0], "-X "+pkg+".gitMinor="+parts[1],
			"-X "+pkg+".gitCommit=unknown", "-X "+pkg+".gitTreeState=clean", "-X "+pkg+".buildDate=1970-01-01T00:00:00Z")
	}
	return strings.Join(flags, " ")
}

func (w *work) kubernetes(ctx context.Context) error {
	const all = "hyperkube"
	if err := w.build(ctx, versionFlags(), all, "./cmd/"+all); err != nil {
		return err
	}
	for _, program := range config.Programs {
		if err := os.Symlink(all, filepath.Join(w.out, program)); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) coredns(ctx context.Context) error {
	return w.build(ctx, strip, "coredns", "./cmd/coredns")
}

func (w *work) helm(ctx context.Context) error {
	return w.build(ctx, strip, "helm", "helm.sh/helm/v4/cmd/helm")
}

func (w *work) containerd(ctx context.Context) error {
	const path = "github.com/containerd/containerd/v2/cmd/"
	return w.install(ctx, nil, []string{"-tags=" + containerdTags, "-ldflags=" + strip},
		path+"containerd@"+containerdVersion, path+"containerd-shim-runc-v2@"+containerdVersion, path+"ctr@"+containerdVersion)
}

func (w *work) plugins(ctx context.Context) error {
	var all []string
	for _, plugin := range plugins {
		all = append(all, "github.com/containernetworking/plugins/plugins/"+plugin+"@"+pluginsVersion)
	}
	return w.install(ctx, nil, []string{"-ldflags=" + strip}, all...)
}
