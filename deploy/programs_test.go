package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.io/fairlead/internal/kube"
)

// TestRolesAreThoseOfThePrograms compares the chart's rules with the data that the programs' own tests are held against.
func TestRolesAreThoseOfThePrograms(t *testing.T) {
	for name, o := range cases {
		r := render(t, o)
		issuer, roots := kube.IssuerSecret, kube.RootsConfigMap
		if name == "existing" {
			issuer, roots = "mesh-issuer", "mesh-roots"
		}
		controller, uninstall := kube.ControllerRoles(issuer, roots), kube.UninstallRoles(issuer, roots)
		if name == "everything" {
			controller.Cluster = append(controller.Cluster, kube.TaintRule())
		}
		for _, c := range []struct {
			kind, name string
			in         []*unstructured.Unstructured
			want       []kube.Rule
		}{
			{"ClusterRole", kube.Controller, r.Objects, controller.Cluster},
			{"Role", kube.Controller, r.Objects, controller.Namespace},
			{"ClusterRole", kube.Uninstall, hookObjects(r), uninstall.Cluster},
			{"Role", kube.Uninstall, hookObjects(r), uninstall.Namespace},
		} {
			var want []rbacv1.PolicyRule
			for _, rule := range c.want {
				want = append(want, rule.PolicyRule)
			}
			got := as[rbacv1.Role](t, find(t, c.in, c.kind, c.name)).Rules
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s %s (- the program, + the chart):\n%s", name, c.kind, c.name, diff)
			}
		}
	}
}

// TestNamesAreThoseOfThePrograms: what the programs look for by name is what the chart makes.
func TestNamesAreThoseOfThePrograms(t *testing.T) {
	r := render(t, cases["own-ca"])
	for name, kinds := range map[string]string{
		kube.Controller: "Deployment ServiceAccount Service", kube.Node: "DaemonSet ServiceAccount",
		kube.IssuerSecret: "Secret", kube.RootsConfigMap: "ConfigMap",
	} {
		for kind := range strings.FieldsSeq(kinds) {
			if find(t, r.Objects, kind, name) == nil {
				t.Errorf("no %s %s", kind, name)
			}
		}
	}
	if find(t, hookObjects(r), "ServiceAccount", kube.Uninstall) == nil {
		t.Errorf("no ServiceAccount %s", kube.Uninstall)
	}
	text := field(t, find(t, hookObjects(r), "ConfigMap", "fairlead-cleanup"), "data", "daemonset.yaml").(string)
	if cleanup, err := parse("cleanup", text); err != nil || cleanup.GetName() != kube.Cleanup {
		t.Errorf("clean-up: %v, %v", cleanup, err)
	}
	if m := mountsOf(t, podsOf(t, r).node, "keeper"); m["/var/run/secrets/fairlead"].From != "token for "+kube.Audience {
		t.Errorf("token: %+v", m["/var/run/secrets/fairlead"])
	}
}

// TestProgramsTakeTheirArguments runs every command of every container, probes included, with --help behind it: a program gets
// there only if it has understood what stands before.
func TestProgramsTakeTheirArguments(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin, "../cmd/nodeproxy", "../cmd/controller")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ran := map[string]bool{}
	inEachCase(t, func(t *testing.T, _ Options, p pods) {
		for _, pod := range []corev1.PodSpec{p.node, p.cleanup, p.controller, p.uninstall} {
			for _, c := range pod.Containers {
				commands := [][]string{append(c.Command, c.Args...)}
				if c.ReadinessProbe != nil && c.ReadinessProbe.Exec != nil {
					commands = append(commands, c.ReadinessProbe.Exec.Command)
				}
				for _, command := range commands {
					ran[strings.Join(command[:min(2, len(command))], " ")] = true
					command = append(command, "--help")
					cmd := exec.CommandContext(t.Context(), filepath.Join(bin, command[0]), expand(c.Env, command[1:])...)
					cmd.Env = append(os.Environ(), "POD_NAME=p", "POD_NAMESPACE=n", "POD_IP=192.0.2.1")
					out, _ := cmd.CombinedOutput() // the programs do not agree on the status of --help
					if refusal.Match(out) || !help.Match(out) {
						t.Errorf("%s: %q:\n%.300s", c.Name, command, out)
					}
				}
			}
		}
	})
	if len(ran) != 7 {
		t.Errorf("ran %v", ran)
	}
}

var (
	help    = regexp.MustCompile(`(?m)^  -[a-z-]+`)
	refusal = regexp.MustCompile(`not defined|invalid|unexpected argument|unknown argument|is required`)
)

// expand replaces $(NAME), as the kubelet does.
func expand(env []corev1.EnvVar, args []string) []string {
	all := strings.Join(args, "\x00")
	for _, e := range env {
		all = strings.ReplaceAll(all, "$("+e.Name+")", "value")
	}
	return strings.Split(all, "\x00")
}

var (
	metric     = regexp.MustCompile(`\bfairlead_[a-z0-9_]+\b`)
	documented = regexp.MustCompile("(?m)^\\| `(fairlead_[a-z_]+)` \\| (?:counter|gauge|histogram) \\|")
)

// TestRulesNameMetricsThatThereAre: docs/METRICS.md is held to the code by a test of its own.
func TestRulesNameMetricsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) {
		there[m[1]] = true
	}
	recorded := regexp.MustCompile(`(workload|edge|mesh):[a-z0-9_:]+`)
	for _, r := range rulesOf(t) {
		for _, name := range metric.FindAllString(recorded.ReplaceAllString(r.Expr, ""), -1) {
			if !there[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s%s uses %s, which docs/METRICS.md does not have", r.Alert, r.Record, name)
			}
		}
	}
}
