package fairlead_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"testing"
)

// The rules of who imports whom. A path without a dot in its first element is ours; "x/..." is x and all below.
// Rules name packages by path, so that one which does not exist yet meets its rule on the day it does.
//
// Kinds of rule, each over the packages in `of` without those in `except`:
//   - ours:   the only packages of ours that they import
//   - others: the only packages outside this module and the standard library that they import
//   - never:  what they do not import
//   - unreached: what they do not import, not even through another package
var rules = []rule{
	{
		of: []string{"internal/mesh/..."}, ours: none, others: none,
		reason: "mesh is the nouns: everything knows it, so it knows nothing",
	},
	{
		of: []string{"api/..."}, ours: none, others: list{"k8s.io/apimachinery/...", "sigs.k8s.io/gateway-api/apis/..."},
		reason: "the API is types that others import, too",
	},
	{
		of: []string{"internal/policy"}, ours: list{"internal/mesh"}, others: none,
		reason: "a decision about who gets in is read by itself: no clock, no connection, no cluster",
	},
	{
		of: []string{"internal/redirect/..."}, ours: list{"internal/mesh", "internal/redirect/..."},
		unreached: list{"internal/l7/...", "internal/keeper/...", "internal/node/..."},
		reason:    "the kernel's side knows no byte of a connection: keeper drives it, a socket parts it from l7",
	},
	{
		of: []string{"internal/l7/..."}, ours: list{"internal/mesh", "internal/l7/..."},
		others:    list{"golang.org/x/net/...", "golang.org/x/sys/...", "golang.org/x/time/...", "github.com/cespare/xxhash/v2"},
		unreached: list{"internal/redirect/...", "internal/keeper/...", "internal/node/..."},
		reason:    "the parser of foreign bytes is small, ours, and knows neither kernel nor cluster: node drives it",
	},
	{
		of: []string{"internal/keeper/socket/..."}, ours: list{"internal/mesh", "internal/keeper/socket/..."},
		reason: "both ends of the socket link it: it would carry whatever it imports across the privilege boundary",
	},
	{
		of: []string{"internal/keeper/..."}, except: []string{"internal/keeper/socket/..."},
		ours: list{
			"internal/mesh", "internal/redirect/...", "internal/identity/...", "internal/control/...",
			"internal/cni/...", "internal/keeper/...",
		},
		unreached: list{"internal/l7/...", "internal/node/...", "internal/compile/..."},
		reason:    "the privileged process stays readable in an hour and parses no HTTP",
	},
	{
		of: []string{"internal/node/..."}, never: list{"internal/keeper"},
		unreached: list{
			"internal/redirect/...", "internal/keeper", "internal/identity/ca/...", "internal/compile/...", "internal/cni/...",
		},
		reason: "the unprivileged process reaches the kernel and the keys through the keeper's socket alone",
	},
	{
		of: []string{"internal/identity/..."}, ours: list{"internal/mesh", "internal/identity/..."},
		reason: "identities are used on every side, so they know none",
	},
	{
		of:     []string{"internal/control/..."},
		ours:   list{"internal/mesh", "internal/identity/...", "internal/control/..."},
		reason: "both ends of the streams link it: it knows neither who compiles the snapshot nor who uses it",
	},
	{
		of: []string{"internal/compile/..."}, ours: list{"api/...", "internal/mesh", "internal/compile/..."},
		reason: "objects go in and a delta comes out: the same with and without a Kubernetes",
	},
	{
		of: []string{"internal/kube"}, ours: list{"api/...", "internal/mesh", "internal/identity/...", "internal/compile/..."},
		reason: "the cluster goes in as objects, tokens and texts: it knows no node and no stream",
	},
	{
		of: []string{"..."}, except: []string{"cmd/controller/...", "cmd/fairlead/..."},
		never:  list{"internal/kube"},
		reason: "whoever imports it can speak to the API server",
	},
	{
		of: []string{"..."}, except: []string{"internal/kube/kubetest", "test/..."}, never: list{"internal/kube/kubetest"},
		reason: "kubetest is an API server for tests",
	},
	{
		of: []string{"internal/cni/..."}, except: []string{"internal/cni/install/..."}, ours: list{"internal/cni"},
		others: list{"github.com/containernetworking/cni/..."},
		reason: "every start of a pod waits for the plugin: it is small and brings nothing along",
	},
	{
		of: []string{"cmd/cni-plugin/..."}, ours: list{"internal/cni", "cmd/cni-plugin/..."},
		others: list{"github.com/containernetworking/cni/..."},
		reason: "the plugin parses, makes one local call, and prints the result",
	},
	{
		of: []string{"..."}, except: []string{"internal/kube/...", "test/..."},
		never: list{"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/..."}, tests: true,
		reason: "internal/kube is the only client of the API server",
	},
	{
		of:        []string{"cmd/nodeproxy/...", "cmd/cni-plugin/..."},
		unreached: list{"internal/kube/...", "k8s.io/client-go/...", "k8s.io/api/...", "k8s.io/apimachinery/..."},
		reason:    "a node speaks to our controller, never to the API server",
	},
	{
		of:        []string{"cmd/fairlead/...", "internal/check/...", "internal/fleet/...", "internal/traffic/..."},
		unreached: list{"internal/l7/...", "internal/redirect/...", "internal/keeper/...", "internal/node", "internal/control/..."},
		reason:    "the tool asks the programs over HTTP, and knows of the node what it says (internal/node/debug)",
	},
	{
		of: []string{"internal/node/debug"}, ours: none, others: none,
		reason: "both ends of the question know it: it is types only",
	},
	{
		of: []string{"..."}, except: []string{"internal/fleet/fleettest/...", "test/..."},
		never:  list{"internal/fleet/fleettest/...", "internal/kube/remote/remotetest/..."},
		reason: "a cluster in memory is for tests",
	},
	{
		of: []string{"..."}, except: []string{"internal/testnet/...", "test/..."}, never: list{"internal/testnet/..."},
		reason: "testnet makes and removes namespaces: it is for tests",
	},
	{
		of:        []string{"cmd/...", "internal/..."},
		except:    []string{"cmd/fairlead/..."},
		unreached: list{"deploy", "helm.sh/helm/..."},
		reason:    "the chart and Helm's engine are for the command line tool: nothing that runs in the cluster renders anything",
	},
	{
		of: []string{"deploy"}, ours: none, unreached: list{"helm.sh/helm/v4/pkg/action", "helm.sh/helm/v4/pkg/kube"},
		reason: "the chart is data, rendered without a cluster: Helm's client brings kubectl and a registry along",
	},
	{
		of: []string{"examples/..."}, ours: list{"examples/..."}, tests: true,
		reason: "the examples are ordinary applications that know nothing of the mesh",
	},
	{
		of: []string{"..."}, never: list{"github.com/stretchr/testify/..."}, tests: true,
		reason: "tests need the standard library, go-cmp, testscript and goleak",
	},
}

// module is the path of this module with a slash behind it.
const module = "fairlead.io/fairlead/"

func TestImports(t *testing.T) {
	packages := goList(t)
	if _, ok := packages["internal/mesh"]; !ok {
		t.Fatalf("internal/mesh is not among the %d packages listed: the rules would hold of nothing", len(packages))
	}
	for _, violation := range check(rules, packages) {
		t.Error(violation)
	}
}

// goList returns our packages and all that they need, ours without the module's name before them.
func goList(t *testing.T) graph {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	packages := make(graph)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath                         string
			Standard                           bool
			Imports, TestImports, XTestImports []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		if p.Standard {
			continue
		}
		packages.add(p.ImportPath, p.Imports, append(p.TestImports, p.XTestImports...))
	}
}
