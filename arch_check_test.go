package fairlead_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// list is patterns of packages; a nil list asks for nothing, and none allows nothing.
type list []string

var none = list{}

type rule struct {
	of, except       []string
	ours, others     list // the only imports, when not nil
	never, unreached list
	tests            bool // test files are meant too
	reason           string
}

// node is what a package imports, standard library left out.
type node struct{ imports, tests []string }

// graph has our packages by their path in the module, and foreign ones by their whole path.
type graph map[string]node

func (g graph) add(path string, imports, tests []string) {
	g[trim(path)] = node{foreign(imports), foreign(tests)}
}

// trim takes the module's name off. The root package is ".".
func trim(path string) string {
	if path+"/" == module {
		return "."
	}
	return strings.TrimPrefix(path, module)
}

// foreign drops the standard library, whose paths have no dot in their first element, and trims the rest.
func foreign(imports []string) []string {
	var kept []string
	for _, path := range imports {
		if isForeign(path) {
			kept = append(kept, trim(path))
		}
	}
	return kept
}

func isForeign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && first != "."
}

// isOurs tells a trimmed path of this module from one of another.
func isOurs(trimmed string) bool { return !isForeign(trimmed) }

func match(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, below := strings.CutSuffix(pattern, "/...")
		return pattern == "..." || path == prefix || below && strings.HasPrefix(path, prefix+"/")
	})
}

// check returns every violation, in order of rules and then of packages.
func check(rules []rule, packages graph) []string {
	var violations []string
	for _, r := range rules {
		for _, path := range slices.Sorted(maps.Keys(packages)) {
			if isOurs(path) && match(r.of, path) && !match(r.except, path) {
				for _, found := range r.check(path, packages) {
					violations = append(violations, fmt.Sprintf("%s\n\tagainst the rule that %s", found, r.reason))
				}
			}
		}
	}
	return violations
}

func (r rule) check(path string, packages graph) []string {
	var found []string
	imports := slices.Clone(packages[path].imports)
	if r.tests {
		imports = append(imports, packages[path].tests...)
	}
	slices.Sort(imports)
	for _, target := range slices.Compact(imports) {
		allowed := r.others
		if isOurs(target) {
			allowed = r.ours
		}
		if allowed != nil && !match(allowed, target) || match(r.never, target) {
			found = append(found, path+" imports "+target)
		}
	}
	if r.unreached != nil {
		found = append(found, reach(path, r.unreached, packages)...)
	}
	return found
}

// reach finds the shortest ways from a package to what it must not reach, one for each forbidden target.
func reach(from string, forbidden list, packages graph) []string {
	var found []string
	way := map[string]string{from: from}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range packages[queue[0]].imports {
			if _, seen := way[next]; seen {
				continue
			}
			way[next] = way[queue[0]] + " -> " + next
			if match(forbidden, next) {
				found = append(found, from+" reaches "+next+": "+way[next])
				continue // what lies behind it is its own affair
			}
			queue = append(queue, next)
		}
	}
	return found
}

// fabricated is one import, as source would have it, and what a rule says of it: "" when it is allowed.
type fabricated struct {
	from, to string
	test     bool
	reason   string // words of the rule that it breaks
}

var fabrications = []fabricated{
	{from: "internal/mesh", to: "golang.org/x/sys/unix", reason: "mesh is the nouns"},
	{from: "internal/mesh/text", to: "internal/l7", reason: "mesh is the nouns"},
	{from: "internal/mesh", to: "net/netip"},
	{from: "internal/mesh", to: "github.com/google/go-cmp/cmp", test: true},
	{from: "api/v1alpha1", to: "internal/mesh", reason: "the API is types"},
	{from: "api/v1alpha1", to: "k8s.io/api/core/v1", reason: "the API is types"},
	{from: "api/v1alpha1", to: "sigs.k8s.io/gateway-api/apis/v1"},
	{from: "internal/compile", to: "api/v1alpha1"},
	{from: "internal/redirect", to: "internal/l7/h1", reason: "the kernel's side"},
	{from: "internal/redirect", to: "internal/keeper/socket", reason: "the kernel's side"},
	{from: "internal/redirect", to: "github.com/cilium/ebpf"},
	{from: "internal/l7/h3", to: "internal/redirect", reason: "the parser of foreign bytes"},
	{from: "internal/l7", to: "internal/node", reason: "the parser of foreign bytes"},
	{from: "internal/l7/h2", to: "google.golang.org/grpc", reason: "the parser of foreign bytes"},
	{from: "internal/l7/h2", to: "golang.org/x/net/http2/hpack"},
	{from: "internal/l7", to: "internal/l7/h1"},
	{from: "internal/keeper/socket", to: "internal/identity", reason: "both ends of the socket"},
	{from: "internal/policy", to: "internal/mesh"},
	{from: "internal/policy", to: "internal/l7", reason: "a decision about who gets in"},
	{from: "internal/keeper/socket", to: "internal/mesh"},
	{from: "internal/keeper", to: "internal/l7", reason: "the privileged process"},
	{from: "internal/keeper", to: "internal/redirect"},
	{from: "internal/node", to: "internal/redirect", reason: "the unprivileged process"},
	{from: "internal/node", to: "internal/keeper", reason: "the unprivileged process"},
	{from: "internal/node/drain", to: "internal/identity/ca", reason: "the unprivileged process"},
	{from: "internal/node", to: "internal/keeper/socket"},
	{from: "internal/identity", to: "internal/control", reason: "identities are used"},
	{from: "internal/control", to: "internal/compile", reason: "both ends of the streams"},
	{from: "internal/compile", to: "internal/control", reason: "objects go in"},
	{from: "internal/cni", to: "internal/mesh", reason: "every start of a pod"},
	{from: "internal/cni", to: "github.com/containernetworking/cni/pkg/skel"},
	{from: "cmd/cni-plugin", to: "internal/keeper", reason: "the plugin parses"},
	{from: "cmd/cni-plugin", to: "google.golang.org/grpc", reason: "the plugin parses"},
	{from: "cmd/cni-plugin", to: "internal/cni"},
	{from: "internal/compile", to: "k8s.io/client-go/kubernetes", reason: "the only client"},
	{from: "internal/anything", to: "k8s.io/client-go/rest", test: true, reason: "the only client"},
	{from: "internal/kube", to: "k8s.io/client-go/rest"},
	{from: "internal/kube", to: "internal/control", reason: "the cluster goes in"},
	{from: "internal/kube", to: "internal/compile"},
	{from: "internal/node", to: "internal/kube", reason: "whoever imports it"},
	{from: "deploy", to: "internal/kube", test: true},
	{from: "cmd/controller", to: "internal/kube/kubetest", reason: "kubetest is an API server"},
	{from: "cmd/controller", to: "internal/kube/kubetest", test: true},
	{from: "cmd/fairlead", to: "internal/kube/remote"},
	{from: "cmd/nodeproxy", to: "internal/kube", reason: "a node speaks to our controller"},
	{from: "cmd/controller", to: "internal/kube"},
	{from: "internal/anything", to: "internal/testnet", reason: "testnet makes and removes"},
	{from: "internal/anything", to: "internal/testnet", test: true},
	{from: "test/system", to: "internal/testnet"},
	{from: "cmd/controller", to: "deploy", reason: "for the command line tool"},
	{from: "cmd/fairlead", to: "deploy"},
	{from: "cmd/fairlead", to: "internal/node", reason: "the tool asks the programs"},
	{from: "internal/check", to: "internal/keeper/socket", reason: "the tool asks the programs"},
	{from: "internal/fleet", to: "internal/node/debug"},
	{from: "internal/node/debug", to: "internal/mesh", reason: "both ends of the question"},
	{from: "cmd/fairlead", to: "internal/fleet/fleettest", reason: "a cluster in memory"},
	{from: "internal/check", to: "internal/fleet/fleettest", test: true},
	{from: "deploy", to: "helm.sh/helm/v4/pkg/action", reason: "the chart is data"},
	{from: "deploy", to: "internal/kube", reason: "the chart is data"},
	{from: "deploy", to: "internal/kube", test: true},
	{from: "deploy", to: "helm.sh/helm/v4/pkg/engine"},
	{from: "examples/vote/front", to: "internal/mesh", reason: "ordinary applications"},
	{from: "examples/vote/front", to: "internal/mesh", test: true, reason: "ordinary applications"},
	{from: "examples/vote/front", to: "examples/vote/proto"},
	{from: "internal/anything", to: "github.com/stretchr/testify/require", test: true, reason: "tests need"},
}

// source is a path as source files have it.
func source(path string) string {
	if first, _, _ := strings.Cut(path, "/"); slices.Contains([]string{"api", "internal", "cmd", "test", "examples", "deploy"}, first) {
		return module + path
	}
	return path
}

// TestCheck breaks every rule on purpose, and stays within each by a hair.
func TestCheck(t *testing.T) {
	broken := make(map[string]bool)
	for _, f := range fabrications {
		packages := make(graph)
		if f.test {
			packages.add(source(f.from), nil, []string{source(f.to)})
		} else {
			packages.add(source(f.from), []string{source(f.to)}, nil)
		}
		got := strings.Join(check(rules, packages), "\n")
		if f.reason == "" && got != "" || f.reason != "" && !strings.Contains(got, f.reason) {
			t.Errorf("%s imports %s: violations %q, want %q", f.from, f.to, got, f.reason)
		}
		for _, r := range rules {
			if f.reason != "" && strings.Contains(r.reason, f.reason) {
				broken[r.reason] = true
			}
		}
	}
	for _, r := range rules {
		if r.reason == "" || !broken[r.reason] {
			t.Errorf("no fabricated import breaks the rule over %v: %q", r.of, r.reason)
		}
	}
}

func TestCheckSeesTheWayRound(t *testing.T) {
	packages := make(graph)
	packages.add(source("internal/node"), []string{source("internal/admin"), "fmt"}, nil)
	packages.add(source("internal/admin"), []string{"example.com/lib", source("internal/keeper/socket")}, nil)
	packages.add("example.com/lib", []string{source("internal/redirect")}, nil)
	packages.add(source("internal/keeper/socket"), []string{source("internal/mesh")}, nil)
	got := check(rules, packages)
	want := "internal/node reaches internal/redirect: internal/node -> internal/admin -> example.com/lib -> internal/redirect"
	if len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("violations %q, want one that says %q", got, want)
	}
}
