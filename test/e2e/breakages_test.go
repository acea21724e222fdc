package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// breakage is one thing that is wrong with an installation.
type breakage struct {
	name string
	do   func(*testing.T) (undo func())
	// again keeps it broken while check is asked, where Kubernetes would mend it.
	again      func(*testing.T)
	args       []string // of check
	says, hint string   // expressions: within a line, and within the hint behind it
	also       string   // an expression within another line
	cuts       bool     // what passes through the mesh may be lost
}

// notTaken is said when the controller has seen an issuer, and signs with the one that it had.
const notTaken = `take issuer: try issuer`

// testBreakages breaks the installation in ten ways. Each is named by check, with what mends it, and exits with 1; and the
// application goes on, where all that is broken is what rules the mesh.
func testBreakages(t *testing.T) {
	mustBeWell(t)
	for _, b := range []breakage{
		{name: "controller scaled to 0", do: func(t *testing.T) func() { return withoutController(t) },
			says: `Deployment fairlead-controller is scaled to 0`, hint: `scale deployment fairlead-controller --replicas=1`},
		{name: "expired issuer", do: expiredIssuer, also: notTaken,
			says: `the issuer "CN=e2e expired" has expired at \d{4}-`, hint: `put a valid issuer into the Secret`},
		{name: "wrong CA", do: foreignIssuer, also: notTaken,
			says: `no root in the ConfigMap fairlead-roots vouches for the issuer "CN=e2e foreign"`, hint: `add the issuer's root to the ConfigMap fairlead-roots`},
		{name: "clock skew in a certificate", do: futureIssuer, also: notTaken,
			says: `the issuer "CN=e2e future" begins in the future, at \d{4}-`, hint: `whose clock is right`},
		{name: "plugin removed from the conflist", do: withoutPlugin,
			says: `node ` + lab.nodes[1] + `: our plugin is not in the CNI configuration`, hint: `logs fairlead-node-\S+ -c keeper.*cni\.confDir`},
		{name: "missing RBAC", do: withoutRights,
			says: `the account fairlead-controller may not: .*list pods`, hint: `fairlead upgrade`},
		{name: "bad image", do: badImage,
			says: `container (keeper|proxy) of pod fairlead-node-\S+ on node \S+ has no image \S*/node:no-such-tag`, hint: `image\.repository, image\.tag`},
		{name: "kernel feature missing", do: poorKernel,
			says: `node \S+: the kernel lacks what the keeper needs: .*sk_lookup`, hint: `Linux 6\.1 or newer.*node\.nodeSelector`},
		{name: "unlabelled namespace", do: unlabelled, args: []string{"--proxy", "-n", "e2e-unlabelled"},
			says: `namespace e2e-unlabelled does not bear the label fairlead\.io/mesh=enabled`, hint: `fairlead enroll e2e-unlabelled`},
		{name: "a node's proxy killed", do: nothing, again: func(t *testing.T) { killProxies(t, lab.nodes[1]) }, cuts: true,
			says: `container proxy of pod fairlead-node-\S+ on node ` + lab.nodes[1] + ` has ended \d+ times, last with status 137`, hint: `logs fairlead-node-\S+ -c proxy --previous`},
	} {
		t.Run(b.name, b.test)
	}
	mustBeWell(t)
}

func (b *breakage) test(t *testing.T) {
	earlier, began := bot(t), time.Now()
	undo := b.do(t)
	named := regexp.MustCompile(`(?m)^    .*` + b.says + `.*\n      hint: .*` + b.hint)
	eventually(t, 60*time.Second, "what check says", func() error {
		if b.again != nil {
			b.again(t)
		}
		text, err := lab.tryFairlead(t.Context(), append([]string{"check", "-o", "short"}, b.args...)...)
		status := new(exec.ExitError)
		switch {
		case !errors.As(err, &status):
			return fmt.Errorf("exits with 0 (%v):\n%s", err, text)
		case status.ExitCode() != 1:
			return fmt.Errorf("exits with %d:\n%s", status.ExitCode(), text)
		case !named.MatchString(text):
			return fmt.Errorf("nothing matches %q:\n%s", named, text)
		case !regexp.MustCompile(`(?m)^    .*` + b.also).MatchString(text):
			return fmt.Errorf("nothing matches %q:\n%s", b.also, text)
		}
		t.Logf("named after %v: %s", time.Since(began).Round(time.Second), strings.TrimSpace(named.FindString(text)))
		return nil
	})
	undo()
	mustBeWell(t)
	now := bot(t)
	if lost := now.Unexpected - earlier.Unexpected; lost > 0 && !b.cuts {
		t.Errorf("the bot lost %d of %d requests: %s %v", lost, now.Total-earlier.Total, now.LastError, now.Other)
	}
	t.Logf("mended after %v", time.Since(began).Round(time.Second))
	eventually(t, 30*time.Second, "good answers after that", func() error {
		if again := bot(t); again.OK < now.OK+10 {
			return fmt.Errorf("%d good answers more, %v", again.OK-now.OK, again.Other)
		}
		return nil
	})
}

// mustBeWell waits until check finds no failure.
func mustBeWell(t *testing.T) {
	t.Helper()
	if text := lab.fairlead(t, "check", "-o", "short", "--wait", "90s"); strings.Contains(text, "✗") {
		t.Errorf("check exits with 0, and finds a failure:\n%s", text)
	}
}

// restoring has f called once: when the test asks for it, or at its end.
func restoring(t *testing.T, f func(context.Context) error) (undo func()) {
	t.Helper()
	undo = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Errorf("mend %s: %v", t.Name(), err)
		}
	})
	t.Cleanup(undo)
	return undo
}

func nothing(*testing.T) (undo func()) { return func() {} }

func unlabelled(t *testing.T) (undo func()) {
	namespace(t, "e2e-unlabelled", false)
	return nothing(t)
}

// withoutPlugin takes our entry out of a node's network configuration, which the keeper is not allowed to write.
func withoutPlugin(t *testing.T) (undo func()) {
	dir := cniDirs()[0]
	node := lab.nodes[1]
	// Of the keeper's mount alone, as if the node had it read-only.
	remount := func(how string) string {
		return `for p in /proc/[0-9]*; do a=$(tr '\0' ' ' <$p/cmdline 2>/dev/null) || continue; ` +
			`case $a in "/nodeproxy keeper "*) mount -N ${p#/proc/} -o remount,bind,` + how + ` ` + dir + `;; esac; done`
	}
	file := lab.node(t, node, "grep -l fairlead-cni "+dir+"/*.conflist | head -n 1")
	text := lab.node(t, node, "cat "+file)
	var list map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("parse %s: %v", file, err)
	}
	var others []any
	for _, p := range list["plugins"].([]any) {
		if p.(map[string]any)["type"] != "fairlead-cni" {
			others = append(others, p)
		}
	}
	list["plugins"] = others
	without, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	undo = restoring(t, func(ctx context.Context) error {
		if _, err := lab.tryNode(ctx, node, remount("rw")+"; touch "+path.Join(dir, "e2e")+" && rm "+path.Join(dir, "e2e")); err != nil {
			return err
		}
		for { // the keeper puts it back by itself
			now, err := lab.tryNode(ctx, node, "cat "+file)
			if err != nil || strings.Contains(now, "fairlead-cni") {
				return err
			}
		}
	})
	lab.node(t, node, remount("ro"))
	lab.node(t, node, "echo "+base64.StdEncoding.EncodeToString(without)+" | base64 -d >"+file)
	return undo
}

// patched changes an object of our namespace, and puts back what it replaces: one field.
func patched(t *testing.T, object, field string, value any) (undo func()) {
	t.Helper()
	var at any
	lab.get(t, &at, "-n", systemNamespace, object)
	for part := range strings.SplitSeq(strings.TrimPrefix(field, "/"), "/") {
		at = at.(map[string]any)[part]
	}
	old := replacing(t, field, at)
	undo = restoring(t, func(ctx context.Context) error {
		_, err := lab.try(ctx, "-n", systemNamespace, "patch", object, "--type=json", "-p", old)
		return err
	})
	lab.kubectl(t, "-n", systemNamespace, "patch", object, "--type=json", "-p", replacing(t, field, value))
	return undo
}

// replacing is a JSON patch of one field.
func replacing(t testing.TB, field string, value any) string {
	t.Helper()
	b, err := json.Marshal([]map[string]any{{"op": "replace", "path": field, "value": value}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withoutRights has the controller's account see no pods.
func withoutRights(t *testing.T) (undo func()) {
	var role struct{ Rules []map[string]any }
	lab.get(t, &role, "clusterrole", "fairlead-controller")
	for _, r := range role.Rules {
		var left []any
		for _, name := range r["resources"].([]any) {
			if name != "pods" {
				left = append(left, name)
			}
		}
		r["resources"] = left
	}
	undo = asHinted(t)
	lab.kubectl(t, "patch", "clusterrole/fairlead-controller", "--type=json", "-p", replacing(t, "/rules", role.Rules))
	return undo
}

// asHinted mends what the hint of check says about it: by helm, with the values of the installation.
func asHinted(t *testing.T) (undo func()) {
	return restoring(t, func(ctx context.Context) error {
		_, err := tryHelm(ctx, append([]string{"upgrade", "fairlead", chart, "-n", systemNamespace, "--force-conflicts", "--wait", "--timeout", "100s"}, settings()...)...)
		return err
	})
}

// rolledOver begins an update of the DaemonSet that cannot succeed: the pods that there are stay until it is taken back.
func rolledOver(t *testing.T, args ...string) (undo func()) {
	t.Helper()
	undo = restoring(t, func(ctx context.Context) error {
		_, err := lab.try(ctx, "-n", systemNamespace, "rollout", "undo", "daemonset/fairlead-node")
		if err == nil {
			_, err = lab.try(ctx, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=100s")
		}
		return err
	})
	lab.kubectl(t, append([]string{"-n", systemNamespace}, args...)...)
	return undo
}

func badImage(t *testing.T) (undo func()) {
	image := lab.kubectl(t, "-n", systemNamespace, "get", "daemonset", "fairlead-node", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	undo = asHinted(t)
	lab.kubectl(t, "-n", systemNamespace, "set", "image", "daemonset/fairlead-node", "*="+image[:strings.LastIndex(image, ":")]+":no-such-tag")
	return undo
}

func poorKernel(t *testing.T) (undo func()) {
	return rolledOver(t, "patch", "daemonset", "fairlead-node", "--type=json", "-p",
		`[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--simulate-missing=sk_lookup"}]`)
}
