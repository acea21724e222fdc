package check

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.io/fairlead/internal/kube/remote"
)

// beforeGroup is for a cluster that is to have Fairlead.
func beforeGroup() Group {
	return Group{"before the installation", []Check{
		{ID: "before-namespace", About: "Fairlead is not installed yet", Run: checkNotInstalled},
		{ID: "before-create", About: "you may create every kind of object that is installed", Run: checkCreate},
		{ID: "before-roles", About: "the API server takes what is installed for the whole cluster", Run: checkDryRun},
		{ID: "before-platform", About: "every node is Linux on amd64 or arm64", Run: eachNode(platform)},
		{ID: "before-kernel", About: "every node has Linux 6.1 or newer", Run: eachNode(kernel)},
		{ID: "before-runtime", About: "every node has a container runtime whose network comes from CNI", Run: eachNode(runtime)},
	}}
}

func checkNotInstalled(ctx context.Context, s *State) ([]Finding, error) {
	d, err := s.getDeployment(ctx)
	if remote.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Finding{failed("`fairlead check` checks what is there, `fairlead upgrade` brings it up to date; uninstall it before you install it anew",
		"namespace %s has the Deployment %s already, of version %s", s.Home, d.Name, first(d.Labels["app.kubernetes.io/version"], "unknown"))}, nil
}

// checkCreate asks once for each kind.
func checkCreate(ctx context.Context, s *State) ([]Finding, error) {
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	asked := map[remote.Access]bool{}
	var found []Finding
	for _, o := range objects {
		a := accessTo(o, "create")
		if asked[a] {
			continue
		}
		asked[a] = true
		allowed, err := s.CanI(ctx, a)
		if err != nil {
			return nil, err
		}
		if !allowed {
			found = append(found, failed("ask for the rights of a cluster administrator, or have one install Fairlead",
				"you may not create %s%s", a.Resource, inNamespace(a.Namespace)))
		}
	}
	return found, nil
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " in namespace " + namespace
}

// accessTo is doing something with the objects of a kind.
func accessTo(o *unstructured.Unstructured, verb string) remote.Access {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	return remote.Access{Verb: verb, Group: plural.Group, Resource: plural.Resource, Namespace: o.GetNamespace()}
}

// checkDryRun has the API server look at what has no namespace: nobody may give rights away that he does not have himself.
func checkDryRun(ctx context.Context, s *State) ([]Finding, error) {
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, o := range objects {
		if o.GetNamespace() != "" {
			continue // it would not be there
		}
		err := s.DryRun(ctx, o)
		switch {
		case err == nil || remote.IsAlreadyExists(err):
		default:
			found = append(found, failed("you need the rights that you give to others: those of a cluster administrator are enough", "%v", err))
		}
	}
	return found, nil
}

// eachNode looks at every node for itself.
func eachNode(look func(*corev1.Node) (Finding, bool)) func(context.Context, *State) ([]Finding, error) {
	return func(ctx context.Context, s *State) ([]Finding, error) {
		nodes, err := s.allNodes(ctx)
		if err != nil {
			return nil, err
		}
		var found []Finding
		for i := range nodes {
			if f, bad := look(&nodes[i]); bad {
				found = append(found, f)
			}
		}
		if len(nodes) == 0 {
			found = append(found, failed("add one", "the cluster has no node"))
		}
		return found, nil
	}
}

func platform(n *corev1.Node) (Finding, bool) {
	is := n.Status.NodeInfo
	if is.OperatingSystem != "linux" {
		return warned("nothing: Fairlead leaves it alone", "node %s runs %s: its pods cannot be in the mesh", n.Name, is.OperatingSystem), true
	}
	if !slices.Contains([]string{"amd64", "arm64"}, is.Architecture) {
		return failed("keep Fairlead off it: the value node.nodeSelector of the chart", "node %s is %s: there are no images for it", n.Name, is.Architecture), true
	}
	return Finding{}, false
}

// kernel goes by the version alone: what a kernel was built without only the keeper can tell, when it starts.
func kernel(n *corev1.Node) (Finding, bool) {
	is := n.Status.NodeInfo
	if is.OperatingSystem != "linux" {
		return Finding{}, false
	}
	major, minor, err := versionOf(is.KernelVersion)
	if err != nil {
		return warned("see README.md#what-it-needs; `nodeproxy preflight` on the node tells", "node %s has a kernel of an unknown version: %q", n.Name, is.KernelVersion), true
	}
	if major < 6 || major == 6 && minor < 1 {
		return failed("update the node's system, or keep Fairlead off it: the value node.nodeSelector of the chart", "node %s has Linux %s", n.Name, is.KernelVersion), true
	}
	return Finding{}, false
}

func runtime(n *corev1.Node) (Finding, bool) {
	name, _, _ := strings.Cut(n.Status.NodeInfo.ContainerRuntimeVersion, "://")
	if n.Status.NodeInfo.OperatingSystem != "linux" || name == "containerd" || name == "cri-o" {
		return Finding{}, false
	}
	return warned("it is not tested; the values cni.confDir and cni.binDir of the chart must be its directories",
		"node %s has the container runtime %q", n.Name, n.Status.NodeInfo.ContainerRuntimeVersion), true
}
