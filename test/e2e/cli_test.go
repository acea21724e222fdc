package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The service accounts of the example, as they have to prove themselves.
const voteIdentity = "spiffe://cluster.local/ns/" + voteNamespace + "/sa/"

// testTool asks the command line tool everything that it can tell about an application whose faults are known.
func testTool(t *testing.T) {
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"version", testVersion},
		{"check", testCheck},
		{"stat", testStat},
		{"routes", testRoutes},
		{"edges", testEdges},
		{"pods", testPodsSeen},
		{"explain", testExplain},
		{"manifests", testManifests},
		{"enroll", testEnrollAndBack},
		{"completion", testCompletion},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel() // none changes what another looks at
			part.test(t)
		})
	}
}

// fairleadJSON runs the tool with -o json, and reads what it says into v.
func fairleadJSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out := lab.fairlead(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("parse fairlead %v: %v: %.500q", args, err, out)
	}
}

// mustMatch wants each expression to match; ^ and $ are those of lines.
func mustMatch(t testing.TB, text string, expressions ...string) {
	t.Helper()
	for _, e := range expressions {
		if !regexp.MustCompile("(?m)" + e).MatchString(text) {
			t.Errorf("nothing matches %q in:\n%s", e, text)
		}
	}
}

// piped runs a program with an input.
func piped(t testing.TB, input, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", lab.Kubeconfig}, args...)...)
	cmd.Stdin, cmd.WaitDelay = strings.NewReader(input), 5*time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", path, args, err, stderr.Bytes())
	}
	return string(out)
}

func testVersion(t *testing.T) {
	text := lab.fairlead(t, "version")
	mustMatch(t, text, `^client +\S+ +here$`, `^kubernetes +v1\.`, `^controller +\S+ +pod fairlead-controller-\S+, leader$`)
	for _, n := range lab.nodes {
		mustMatch(t, text, `^proxy +\S+ +node `+n+`$`)
	}
	if strings.Contains(text, "unavailable") {
		t.Errorf("something does not say its version:\n%s", text)
	}
	var v struct {
		Client             string
		Controllers, Nodes []struct{ Version string }
	}
	fairleadJSON(t, &v, "version")
	if len(v.Controllers) != 1 || len(v.Nodes) != len(lab.nodes) || v.Nodes[0].Version != v.Controllers[0].Version {
		t.Errorf("versions: %+v", v)
	}

	// A server that is not there is said, and is no reason not to say the tool's own version.
	file := filepath.Join(t.TempDir(), "kubeconfig")
	const nobody = `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]}`
	if err := os.WriteFile(file, []byte(nobody), 0o600); err != nil {
		t.Fatal(err)
	}
	mustMatch(t, lab.fairlead(t, "version", "--kubeconfig", file), `^client +`+regexp.QuoteMeta(v.Client), `^server +unavailable +https://127\.0\.0\.1:1 does not answer`)
}

// report is what check says, for programs.
type report struct {
	Success            bool
	Failures, Warnings int
	Groups             []struct {
		Checks []struct {
			ID, Status, Skipped string
			Findings            []struct{ Text, Hint string }
		}
	}
}

// with are the checks that have come to a status.
func (r *report) with(status string) (ids []string) {
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			if c.Status == status {
				ids = append(ids, c.ID)
			}
		}
	}
	return ids
}

// testCheck: all is well, and check says so in every way of asking. What is installed cannot be installed again.
func testCheck(t *testing.T) {
	for _, args := range [][]string{{"check"}, {"check", "--proxy", "-n", voteNamespace}, {"check", "-o", "short"}} {
		text := lab.fairlead(t, args...)
		if strings.Contains(text, "✗") {
			t.Errorf("fairlead %v finds a failure:\n%s", args, text)
		}
		mustMatch(t, text, `^Status: ✓ 0 failures`)
	}
	var r report
	fairleadJSON(t, &r, "check", "--proxy", "-n", voteNamespace)
	if !r.Success || r.Failures != 0 || len(r.with("ok")) < 30 {
		t.Errorf("check: %+v", r)
	}
	// The user's own kubectl may be of any version, and this cluster has no Gateway API; nothing else may be in doubt.
	known := []string{"kubectl-version", "gateway-api", "gateway-api-version"}
	if doubts := slices.DeleteFunc(append(r.with("warning"), r.with("skipped")...), func(id string) bool { return slices.Contains(known, id) }); len(doubts) > 0 {
		t.Errorf("warnings, and what was skipped: %v", doubts)
	}

	text, err := lab.tryFairlead(t.Context(), "check", "--pre", "-o", "json")
	if err == nil {
		t.Error("check --pre says that the mesh can be installed where it is")
	}
	var pre report
	if err := json.Unmarshal([]byte(text), &pre); err != nil {
		t.Fatalf("parse check --pre: %v: %.500q", err, text)
	}
	if failed := pre.with("failure"); !slices.Equal(failed, []string{"before-namespace"}) {
		t.Errorf("check --pre: want no other failure than that it is installed: %v\n%s", failed, text)
	}
}

// statRow is a row of stat.
type statRow struct {
	Name         string
	Meshed, Pods int
	Requests     float64
	Success, RPS *float64
}

// testStat: the doughnut's failures are seen where they come from and where they go, and nowhere else; what is counted is
// what the bot has sent.
func testStat(t *testing.T) {
	before := bot(t)
	var rows []statRow
	fairleadJSON(t, &rows, "stat", "deploy", "-n", voteNamespace, "-t", "15s")
	after := bot(t)
	seen := map[string]statRow{}
	for _, r := range rows {
		seen[r.Name] = r
		if want := map[string]int{"catalog": 3}[r.Name]; r.Meshed != max(want, 1) || r.Pods != r.Meshed {
			t.Errorf("%s: %d of %d pods in the mesh", r.Name, r.Meshed, r.Pods)
		}
		if r.Name == "bot" {
			continue // it serves nothing
		}
		if r.Success == nil || r.RPS == nil {
			t.Errorf("%s: nothing was counted: %+v", r.Name, r)
			continue
		}
		if faulty := r.Name == "front" || r.Name == "ballot"; faulty == (*r.Success == 1) || *r.Success < 0.5 {
			t.Errorf("%s: success rate %.2f %%", r.Name, 100**r.Success)
		}
	}
	if len(seen) != 4 {
		t.Errorf("rows: %v", rows)
	}
	rate := float64(after.Total-before.Total) / after.Time.Sub(before.Time).Seconds()
	if rps := seen["front"].RPS; rps == nil || *rps < 0.7*rate || *rps > 1.3*rate {
		t.Errorf("front has %+v, and the bot sends %.1f requests per second", seen["front"], rate)
	}

	for _, q := range []struct{ kind, rows string }{
		{"pod", `^(ballot|bot|catalog|front)-\S+ +1/1 `}, {"namespace", `^vote +6/6 +\d+\.\d+% `}, {"service", `^(ballot|catalog|front) +[13]/[13] +\d+\.\d+% `},
	} {
		text := lab.fairlead(t, "stat", q.kind, "-n", voteNamespace, "-t", "3s")
		want := map[string]int{"pod": 6, "namespace": 1, "service": 3}[q.kind]
		if got := len(regexp.MustCompile("(?m)"+q.rows).FindAllString(text, -1)); got != want {
			t.Errorf("stat %s: %d rows match %q, want %d:\n%s", q.kind, got, q.rows, want, text)
		}
	}
}

// testRoutes: the route that fails is the first, and no other one fails but the page's that calls it.
func testRoutes(t *testing.T) {
	var rows []struct {
		Service, Path, ServerID string
		Requests, Failures      int
	}
	fairleadJSON(t, &rows, "routes", "-n", voteNamespace, "-t", "15s")
	if len(rows) < 5 || !strings.HasSuffix(rows[0].Path, "/"+voteFault) || rows[0].Failures == 0 || rows[0].Failures != rows[0].Requests || rows[0].ServerID != voteIdentity+"ballot" {
		t.Fatalf("the first route is not the one that fails always: %+v", rows)
	}
	for _, r := range rows[1:] {
		if r.Failures > 0 != (r.Path == "/api/vote") || r.Failures == r.Requests {
			t.Errorf("route %+v", r)
		}
	}
}

// testEdges: who talks to whom is what the example's programs do, all of it by mutual TLS, both ends known.
func testEdges(t *testing.T) {
	var rows []struct{ Src, Dst, SrcNamespace, DstNamespace, ClientID, ServerID, Secured string }
	fairleadJSON(t, &rows, "edges", "-n", voteNamespace)
	missing := map[string]bool{"bot front": true, "front ballot": true, "front catalog": true}
	for _, r := range rows {
		delete(missing, r.Src+" "+r.Dst)
		if r.Secured != "mtls" || r.ClientID != voteIdentity+r.Src || r.ServerID != voteIdentity+r.Dst {
			t.Errorf("edge %+v", r)
		}
	}
	if len(missing) > 0 || len(rows) != 3 {
		t.Errorf("edges that are missing: %v, of %+v", missing, rows)
	}
	mustMatch(t, lab.fairlead(t, "edges", "-n", voteNamespace, "-t", "1s"), `^bot +front +vote +vote +vote/bot +vote/front +✓ mutual TLS `)
}

// testPodsSeen: what the nodes hold of single pods and services.
func testPodsSeen(t *testing.T) {
	var ids []struct{ ID, Pod, Node, Problem string }
	fairleadJSON(t, &ids, "identity", "-n", voteNamespace, "deploy/front")
	front := podsOf(t, voteNamespace, "app=front")[0]
	if len(ids) != 1 || ids[0].ID != voteIdentity+"front" || ids[0].Pod != front[0] || ids[0].Node != front[2] || ids[0].Problem != "" {
		t.Errorf("identity of %v: %+v", front, ids)
	}
	mustMatch(t, lab.fairlead(t, "identity", "-n", voteNamespace, front[0]), `^trusted +yes`, `^not after .* left\)$`)

	var endpoints []struct {
		On, Pod, Address, Identity string
		Ready, InMesh              bool
	}
	fairleadJSON(t, &endpoints, "endpoints", "-n", voteNamespace, "catalog")
	known := map[string]bool{}
	for _, e := range endpoints {
		if e.On != front[2] {
			continue // nobody there calls it
		}
		known[e.Pod+" "+e.Address] = true
		if !e.Ready || !e.InMesh || e.Identity != voteIdentity+"catalog" {
			t.Errorf("endpoint %+v", e)
		}
	}
	for _, p := range podsOf(t, voteNamespace, "app=catalog") {
		if !known[p[0]+" "+p[1]+":8081"] || len(known) != 3 {
			t.Errorf("node %s knows %v, and there is %v", front[2], known, p)
		}
	}
}

// testExplain: a call within the mesh, one to outside, and one from outside.
func testExplain(t *testing.T) {
	text := lab.fairlead(t, "explain", "-n", voteNamespace, "deploy/bot", "front")
	mustMatch(t, text, `^from pod vote/bot-\S+ on node `, `✓ destination .* is service vote/front, port 80`,
		`✓ tls +mutual TLS; the server must be `+voteIdentity+`front`, `^to pod vote/front-\S+ on node `, `✓ client .* must prove to be `+voteIdentity+`bot$`)
	if strings.Contains(text, "✗") {
		t.Errorf("a call that works has a step that does not:\n%s", text)
	}
	text = lab.fairlead(t, "explain", "-n", voteNamespace, "deploy/bot", "192.0.2.1:443")
	mustMatch(t, text, `destination +192\.0\.2\.1:443 is neither a service nor a pod`, `tls +plaintext: the address is outside the mesh`)
	agent := lab.agents[lab.nodes[0]]
	text = lab.fairlead(t, "explain", "-n", testNamespace, agent, "front."+voteNamespace)
	mustMatch(t, text, `✗ enrolment +the pod has its node's network`)
}

// testManifests: what the tool writes is what the API server takes.
func testManifests(t *testing.T) {
	original, err := os.ReadFile(voteManifest)
	if err != nil {
		t.Fatal(err)
	}
	text := piped(t, string(original), filepath.Join(*bin, "fairlead"), "inject", "-")
	// The namespace has the label, four Deployments' templates get it.
	if had, has := strings.Count(string(original), enrolLabel+": enabled"), strings.Count(text, enrolLabel+": enabled"); had != 1 || has != 5 {
		t.Errorf("the label was there %d times, and is %d times", had, has)
	}
	var kinds = regexp.MustCompile(`(?m)^kind: Deployment$`)
	if n := len(kinds.FindAllString(text, -1)); n != 4 {
		t.Errorf("%d Deployments came out", n)
	}
	out := piped(t, text, lab.Kubectl, "apply", "--dry-run=server", "-f", "-")
	mustMatch(t, out, `^deployment\.apps/front configured \(server dry run\)`, `^service/front unchanged`)

	out = piped(t, lab.fairlead(t, "install"), lab.Kubectl, "apply", "--dry-run=server", "-f", "-")
	for _, object := range []string{"namespace/fairlead-system", "daemonset.apps/fairlead-node", "deployment.apps/fairlead-controller", "clusterrole.rbac.authorization.k8s.io/fairlead-controller", "secret/fairlead-values"} {
		mustMatch(t, out, "^"+regexp.QuoteMeta(object)+` \S+ \(server dry run\)$`)
	}
	if _, err := lab.try(t.Context(), "-n", systemNamespace, "get", "secret", "fairlead-values"); err == nil {
		t.Error("printing the manifests has changed the cluster")
	}
}

// testEnrollAndBack: a namespace joins and leaves by the tool, which waits until it is so.
func testEnrollAndBack(t *testing.T) {
	ns := namespace(t, "e2e-tool", false)
	mustServe(t, server{namespace: ns, name: "one", replicas: 2})
	for _, step := range []struct {
		command, says string
		pods          int
	}{{"enroll", "enrolled", 2}, {"unenroll", "unenrolled", 0}} {
		mustMatch(t, lab.fairlead(t, step.command, ns, "--wait=60s"), "^namespace "+ns+" "+step.says+"$", "^2 pods are as they are to be($|; connections that were open stay outside)")
		if n, err := meshed(t, ns); err != nil || n != step.pods {
			t.Errorf("%s: %d pods are in the mesh at once, want %d (%v)", step.command, n, step.pods, err)
		}
	}
	if text, err := lab.tryFairlead(t.Context(), "enroll", systemNamespace); err == nil {
		t.Errorf("our own namespace can be enrolled:\n%s", text)
	}
}

// testCompletion: a script for the shell, and the names that are in the cluster.
func testCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if script := lab.fairlead(t, "completion", shell); !strings.Contains(script, "fairlead") || len(script) < 1000 {
			t.Errorf("completion for %s: %.200q", shell, script)
		}
	}
	text := lab.fairlead(t, "__complete", "stat", "deploy", "-n", voteNamespace, "")
	for _, name := range []string{"ballot", "bot", "catalog", "front"} {
		mustMatch(t, text, fmt.Sprintf("^%s$", name))
	}
}
