package deploy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// What a container may do is compared whole: whoever adds a mount, a capability or a variable has to say so here.

// unprivileged is what every container has but the keeper and the clean-up.
var unprivileged = &corev1.SecurityContext{
	RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
	AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
	Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
}

var privileged = &corev1.SecurityContext{
	Privileged: new(true), RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), ReadOnlyRootFilesystem: new(true),
	SeccompProfile:  &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
	AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
	SELinuxOptions:  &corev1.SELinuxOptions{Type: "spc_t"},
}

func TestSecurityContexts(t *testing.T) {
	inEachCase(t, func(t *testing.T, _ Options, p pods) {
		proxy := container(t, p.node, "proxy").SecurityContext
		proxy.SELinuxOptions = nil // a value: what the policy of a node asks for
		for _, c := range []struct {
			name      string
			got, want *corev1.SecurityContext
		}{
			{"keeper", container(t, p.node, "keeper").SecurityContext, privileged},
			{"cleanup", container(t, p.cleanup, "cleanup").SecurityContext, privileged},
			{"proxy", proxy, unprivileged},
			{"controller", container(t, p.controller, "controller").SecurityContext, unprivileged},
			{"uninstall", container(t, p.uninstall, "uninstall").SecurityContext, unprivileged},
		} {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("%s:\n%s", c.name, diff)
			}
		}
	})
}

// TestPodsShareNothing: no namespace of the node, no second container that was not looked at, no token but where it is needed.
func TestPodsShareNothing(t *testing.T) {
	inEachCase(t, func(t *testing.T, _ Options, p pods) {
		for _, c := range []struct {
			name    string
			pod     corev1.PodSpec
			account string
			token   bool
			names   string
		}{
			{"node", p.node, "fairlead-node", false, "keeper proxy"},
			{"cleanup", p.cleanup, "fairlead-node", false, "cleanup"},
			{"controller", p.controller, "fairlead-controller", true, "controller"},
			{"uninstall", p.uninstall, "fairlead-uninstall", true, "uninstall"},
		} {
			pod := c.pod
			if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.ShareProcessNamespace != nil || pod.HostUsers != nil || pod.SecurityContext != nil {
				t.Errorf("%s shares a namespace of the node, or one of its containers'", c.name)
			}
			if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken != c.token || pod.ServiceAccountName != c.account {
				t.Errorf("%s: account %s, token %v", c.name, pod.ServiceAccountName, pod.AutomountServiceAccountToken)
			}
			var names []string
			for _, container := range pod.Containers {
				names = append(names, container.Name)
				for _, port := range container.Ports {
					if port.HostPort != 0 {
						t.Errorf("%s: port %d of the node", c.name, port.HostPort)
					}
				}
			}
			if got := strings.Join(names, " "); got != c.names || len(pod.InitContainers)+len(pod.EphemeralContainers) > 0 {
				t.Errorf("%s has the containers %s", c.name, got)
			}
		}
	})
}

// mount is a mount with what stands behind it.
type mount struct {
	From        string // path on the node, or what kind of volume
	Type        string
	Propagation string
	ReadOnly    bool
}

func mountsOf(t *testing.T, pod corev1.PodSpec, name string) map[string]mount {
	t.Helper()
	volumes := map[string]corev1.VolumeSource{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	all := map[string]mount{}
	for _, m := range container(t, pod, name).VolumeMounts {
		if m.SubPath != "" || m.SubPathExpr != "" {
			t.Errorf("%s: a part of a volume at %s", name, m.MountPath)
		}
		v := volumes[m.Name]
		got := mount{ReadOnly: m.ReadOnly}
		if m.MountPropagation != nil {
			got.Propagation = string(*m.MountPropagation)
		}
		switch {
		case v.HostPath != nil:
			got.From, got.Type = v.HostPath.Path, string(*v.HostPath.Type)
		case v.EmptyDir != nil:
			got.From = "empty directory"
		case v.ConfigMap != nil && v.ConfigMap.Optional == nil:
			got.From = "ConfigMap " + v.ConfigMap.Name
		case v.Projected != nil && len(v.Projected.Sources) == 1 && v.Projected.Sources[0].ServiceAccountToken != nil:
			token := v.Projected.Sources[0].ServiceAccountToken
			if *v.Projected.DefaultMode != 0o400 || *token.ExpirationSeconds != 3600 {
				t.Errorf("token: %+v", v.Projected)
			}
			got.From = "token for " + token.Audience
		}
		all[m.MountPath] = got
	}
	return all
}

// TestMounts: the proxy sees the keeper's socket and nothing else, and the keeper's privileges are these.
func TestMounts(t *testing.T) {
	inEachCase(t, func(t *testing.T, o Options, p pods) {
		roots, bin, conf := "fairlead-roots", "/opt/cni/bin", "/etc/cni/net.d"
		switch {
		case cmp.Equal(o, cases["existing"]):
			roots = "mesh-roots"
		case cmp.Equal(o, cases["k3s"]):
			bin, conf = "/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d"
		}
		cleanup := map[string]mount{
			"/host/proc":            {From: "/proc", Type: "Directory"},
			"/sys/fs/bpf":           {From: "/sys/fs/bpf", Type: "Directory", Propagation: "Bidirectional"},
			"/host/sys/fs/cgroup":   {From: "/sys/fs/cgroup", Type: "Directory"},
			"/run/netns":            {From: "/run/netns", Type: "DirectoryOrCreate", Propagation: "HostToContainer"},
			"/run/fairlead-cleanup": {From: "empty directory"},
			bin:                     {From: bin, Type: "DirectoryOrCreate"},
			conf:                    {From: conf, Type: "DirectoryOrCreate"},
		}
		keeper := map[string]mount{}
		for path, m := range cleanup {
			keeper[path] = m
		}
		delete(keeper, "/run/fairlead-cleanup")
		keeper["/var/lib/fairlead"] = mount{From: "/var/lib/fairlead", Type: "DirectoryOrCreate"}
		keeper["/run/fairlead"] = mount{From: "/run/fairlead", Type: "DirectoryOrCreate"}
		keeper["/run/fairlead/proxy"] = mount{From: "empty directory"}
		keeper["/var/run/secrets/fairlead"] = mount{From: "token for fairlead-controller", ReadOnly: true}
		keeper["/etc/fairlead/roots"] = mount{From: "ConfigMap " + roots, ReadOnly: true}
		for _, c := range []struct {
			name string
			got  map[string]mount
			want map[string]mount
		}{
			{"keeper", mountsOf(t, p.node, "keeper"), keeper},
			{"proxy", mountsOf(t, p.node, "proxy"), map[string]mount{"/run/fairlead/proxy": {From: "empty directory", ReadOnly: true}}},
			{"cleanup", mountsOf(t, p.cleanup, "cleanup"), cleanup},
			{"controller", mountsOf(t, p.controller, "controller"), map[string]mount{}},
			{"uninstall", mountsOf(t, p.uninstall, "uninstall"), map[string]mount{
				"/etc/fairlead/cleanup": {From: "ConfigMap fairlead-cleanup", ReadOnly: true}}},
		} {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("%s:\n%s", c.name, diff)
			}
		}
		if used := len(keeper); len(p.node.Volumes) != used {
			t.Errorf("%d volumes in the nodes' pod, %d are looked at", len(p.node.Volumes), used)
		}
	})
}

// TestWithoutCNITheRuntimesDirectoriesStayOut of the node's pod. The clean-up looks into them all the same: an entry of earlier
// times that stays when everything else has gone would keep every pod from starting.
func TestWithoutCNITheRuntimesDirectoriesStayOut(t *testing.T) {
	p := podsOf(t, render(t, Options{Values: map[string]any{"cni": map[string]any{"install": false}}}))
	for c, want := range map[*corev1.Container]int{ptr(container(t, p.node, "keeper")): 0, ptr(container(t, p.cleanup, "cleanup")): 2} {
		mounts := 0
		for _, m := range c.VolumeMounts {
			if strings.Contains(m.MountPath, "cni") {
				mounts++
			}
		}
		if mounts != want {
			t.Errorf("%s mounts %v", c.Name, c.VolumeMounts)
		}
		if strings.Contains(strings.Join(c.Args, " "), "--cni-conf-dir") != (want > 0) {
			t.Errorf("%s: %v", c.Name, c.Args)
		}
	}
	if n := len(p.node.Volumes); n != 9 {
		t.Errorf("%d volumes", n)
	}
}

// TestEnvironment: a proxy learns the node's name and its limit of memory, and no secret.
func TestEnvironment(t *testing.T) {
	inEachCase(t, func(t *testing.T, _ Options, p pods) {
		for pod, want := range map[*corev1.PodSpec]string{
			&p.node: "NODE_NAME GOMEMLIMIT NODE_NAME GOMEMLIMIT", &p.controller: "POD_NAME POD_NAMESPACE POD_IP", &p.cleanup: "", &p.uninstall: "",
		} {
			var names []string
			for _, c := range pod.Containers {
				if len(c.EnvFrom) > 0 {
					t.Errorf("%s: environment from elsewhere", c.Name)
				}
				for _, e := range c.Env {
					names = append(names, e.Name)
					if e.ValueFrom != nil && (e.ValueFrom.SecretKeyRef != nil || e.ValueFrom.ConfigMapKeyRef != nil) {
						t.Errorf("%s: %s", c.Name, e.Name)
					}
				}
			}
			if got := strings.TrimSuffix(strings.Join(names, " "), " GOMEMLIMIT"); got != strings.TrimSuffix(want, " GOMEMLIMIT") {
				t.Errorf("environment %s, want %s", got, want)
			}
		}
	})
}

// TestNobodyElseHasRights: the nodes' account is bound to nothing, and no rule has a star.
func TestNobodyElseHasRights(t *testing.T) {
	for name, o := range cases {
		r := render(t, o)
		for _, object := range slices.Concat(r.Objects, hookObjects(r)) {
			switch object.GetKind() {
			case "ClusterRoleBinding", "RoleBinding":
				b := as[rbacv1.RoleBinding](t, object) // both have the same fields
				if len(b.Subjects) != 1 || b.Subjects[0].Kind != "ServiceAccount" || b.Subjects[0].Name != object.GetName() ||
					b.Subjects[0].Namespace != orDefault(o.Namespace, DefaultNamespace) || b.RoleRef.Name != object.GetName() ||
					!slices.Contains([]string{"fairlead-controller", "fairlead-uninstall"}, object.GetName()) {
					t.Errorf("%s: %s binds %s to %+v", name, object.GetName(), b.RoleRef.Name, b.Subjects)
				}
			case "ClusterRole", "Role":
				for _, rule := range as[rbacv1.Role](t, object).Rules {
					all := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.ResourceNames, rule.NonResourceURLs)
					if slices.Contains(all, "*") || len(rule.NonResourceURLs) > 0 {
						t.Errorf("%s: %s may %v", name, object.GetName(), rule)
					}
					secret := slices.Contains(rule.Resources, "secrets") && !slices.Equal(rule.Verbs, []string{"create"})
					if secret && (len(rule.ResourceNames) != 1 || object.GetKind() != "Role") {
						t.Errorf("%s: %s may %v every secret", name, object.GetName(), rule.Verbs)
					}
				}
			}
		}
	}
}

// TestEveryMountIsExplained: directly above each mount in the templates stands what it is for.
func TestEveryMountIsExplained(t *testing.T) {
	explained := 0
	mount := regexp.MustCompile(`(?m)^(.*)\n +- name: (\S+)\n +mountPath: (\S+)|^(.*)\n- name: (\S+)\n +mountPath: (\S+)`)
	for _, name := range []string{"_node.tpl", "_cleanup.tpl", "node.yaml"} {
		text, err := os.ReadFile(root + "/templates/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mount.FindAllStringSubmatch(string(text), -1) {
			above, path := m[1]+m[4], m[3]+m[6]
			explained++
			if !strings.HasPrefix(strings.TrimSpace(above), "# ") && m[5] != "cni-conf" { // explained with cni-bin, above it
				t.Errorf("%s: nothing is said of the mount at %s", name, path)
			}
		}
	}
	if explained < 12 {
		t.Errorf("only %d mounts found: the pattern does not find them", explained)
	}
}

func ptr[T any](v T) *T { return &v }
