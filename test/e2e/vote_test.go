package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// The example application: what its README says of it.
const (
	voteNamespace = "vote"
	voteManifest  = "../../examples/vote/vote.yaml"
	voteMarker    = "vote-plaintext-8f2b61c4d9"
	voteFault     = "VoteDoughnut"
	enrolLabel    = "fairlead.io/mesh"
)

// botLine is the bot's line, as far as it matters here.
type botLine struct {
	Time       time.Time      `json:"time"`
	Total      int            `json:"total"`
	OK         int            `json:"ok"`
	Failed     map[string]int `json:"failed"`
	Other      map[string]int `json:"other"`
	Unexpected int            `json:"unexpected"`
	Served     map[string]int `json:"served"`
	LastError  string         `json:"lastError"`
}

// bot reads the bot's last line.
func bot(t testing.TB) botLine {
	t.Helper()
	var b botLine
	eventually(t, 20*time.Second, "the bot's line", func() error {
		out, err := lab.try(t.Context(), "-n", voteNamespace, "logs", "deploy/bot", "--tail=1")
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(out), &b)
	})
	return b
}

// uids are the pods of a namespace that run, with how often their containers were started again.
func uids(t testing.TB, namespace string) map[string]int {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID string }
			Status   struct {
				Phase             string
				ContainerStatuses []struct{ RestartCount int }
			}
		}
	}
	lab.get(t, &list, "-n", namespace, "pods")
	out := map[string]int{}
	for _, p := range list.Items {
		if p.Status.Phase != "Running" {
			continue
		}
		n := 0
		for _, s := range p.Status.ContainerStatuses {
			n += s.RestartCount
		}
		out[p.Metadata.Name+" "+p.Metadata.UID] = n
	}
	return out
}

// page asks the vote page's service through kubectl port-forward.
func page(t testing.TB, path string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Kubectl, "--kubeconfig", lab.Kubeconfig, "-n", voteNamespace, "port-forward", "--address", "127.0.0.1", "svc/front", ":80")
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	var port int
	if _, err := fmt.Fscanf(out, "Forwarding from 127.0.0.1:%d", &port); err != nil {
		t.Fatalf("read kubectl port-forward: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("ask the vote page: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func mustAnswer(t testing.TB) {
	t.Helper()
	if code, body := page(t, "/"); code != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("the vote page: %d %.200q", code, body)
	}
	// kube-proxy may not have heard yet of the catalog that has just become ready.
	eventually(t, 15*time.Second, "the vote page's list", func() error {
		if code, body := page(t, "/api/list"); code != http.StatusOK || !strings.Contains(body, "doughnut") {
			return fmt.Errorf("%d %.200q", code, body)
		}
		return nil
	})
}

// voteUnlabelled is the example's manifest without the label that enrols its namespace.
func voteUnlabelled() (string, error) {
	text, err := os.ReadFile(voteManifest)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(text), "  labels:\n    "+enrolLabel+": enabled\n")
	if !found {
		return "", errors.New("the example's manifest does not enrol its namespace where it used to")
	}
	return before + after, nil
}

// testBefore shows what the mesh is for: the application works, in plaintext.
func testBefore(t *testing.T) {
	manifest, err := voteUnlabelled()
	if err != nil {
		t.Fatal(err)
	}
	lab.apply(t, manifest)
	lab.kubectl(t, "label", "namespace", voteNamespace, enrolLabel+"-") // of a life before
	for _, d := range []string{"front", "catalog", "ballot", "bot"} {
		lab.kubectl(t, "-n", voteNamespace, "rollout", "status", "deploy/"+d, "--timeout=90s")
	}
	mustAnswer(t)
	// A client of gRPC that came before its server waits some seconds before it tries again: until then the bot gets a 503.
	eventually(t, 60*time.Second, "three seconds without a failure that should not be", func() error {
		first := bot(t)
		time.Sleep(3 * time.Second) // the time that is counted
		if now := bot(t); now.Unexpected > first.Unexpected || now.OK < first.OK+15 {
			return fmt.Errorf("%d good answers, %d failures: %v", now.OK-first.OK, now.Unexpected-first.Unexpected, now.Other)
		}
		return nil
	})
	hits := uint64(0)
	for node, s := range lab.capture(t, 5*time.Second, voteMarker) {
		t.Logf("%s: %d packets, %d of %d connections TLS, plaintext %d times", node, s.Packets, s.TLSFlows, s.Flows, s.Hits[voteMarker])
		hits += s.Hits[voteMarker]
	}
	if hits == 0 {
		t.Error("the capture sees no plaintext of an application without a mesh: it would prove nothing")
	}
}

// mustBeSecret captures what passes between pods on all nodes, while the application makes its connections anew.
func mustBeSecret(t testing.TB) {
	t.Helper()
	pods := strings.ReplaceAll(lab.kubectl(t, "-n", voteNamespace, "get", "pods", "-o", "jsonpath={.items[*].status.podIP}"), " ", ",")
	seen := lab.watch(t, 8*time.Second, voteMarker, "-among", pods)
	time.Sleep(3 * time.Second) // until all captures run
	restartConnections(t, voteNamespace)
	flows := uint64(0)
	for node, s := range seen() {
		t.Logf("%s: %d packets between pods, %d of %d connections TLS, plaintext %d times", node, s.Packets, s.TLSFlows, s.Flows, s.Hits[voteMarker])
		if s.Hits[voteMarker] > 0 || s.TLSFlows != s.Flows {
			t.Errorf("%s: plaintext between pods in the mesh: %v, opened %v", node, s.First, s.Opened)
		}
		flows += s.TLSFlows
	}
	if flows == 0 {
		t.Error("no connection of the mesh was seen to begin")
	}
}

// mustWarnOfEarlier wants a warning of connections from before the pods joined, or none. They are counted every 10 s.
func mustWarnOfEarlier(t testing.TB, want bool) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("check warns of connections from before: %v", want), func() error {
		var r report
		fairleadJSON(t, &r, "check", "--proxy", "-n", voteNamespace)
		if slices.Contains(r.with("warning"), "mesh-connections") != want || slices.Contains(r.with("ok"), "mesh-connections") == want {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}

// testEnrolled labels the namespace, and nothing else: the running pods are in the mesh, none was started again, no
// request was lost, and nothing is in the clear.
func testEnrolled(t *testing.T) {
	pods, earlier := uids(t, voteNamespace), bot(t)
	before := earlier
	if len(pods) < 6 {
		t.Fatalf("running: %v", pods)
	}
	began := time.Now()
	lab.kubectl(t, "label", "namespace", voteNamespace, enrolLabel+"=enabled")
	joined := eventually(t, 20*time.Second, "all pods in the mesh", func() error {
		n, err := inMesh(t)
		if err == nil && n < len(pods) {
			err = fmt.Errorf("%d of %d", n, len(pods))
		}
		return err
	})
	t.Logf("%d running pods were in the mesh after %v", len(pods), joined.Round(10*time.Millisecond))
	if joined > 5*time.Second {
		t.Errorf("joining took %v, 5 s are promised", joined)
	}

	if now := bot(t); now.Unexpected != earlier.Unexpected {
		t.Errorf("the bot lost %d requests: %s", now.Unexpected-earlier.Unexpected, now.LastError)
	}
	// What was open before stays as it was, in plaintext, until it ends; and the front holds its connections for good. That is said,
	// and they are reset here, which costs what was under way.
	mustWarnOfEarlier(t, true)
	restartConnections(t, voteNamespace)
	mustBeSecret(t) // which resets them once more
	mustWarnOfEarlier(t, false)
	mustBeUntouched(t, pods)
	earlier = bot(t)
	if moved := earlier.Unexpected - before.Unexpected; moved > 20 {
		t.Errorf("%d requests were lost with the connections", moved)
	}
	now := earlier
	eventually(t, 30*time.Second, "good answers, and the doughnut's", func() error {
		if now = bot(t); now.Total-earlier.Total < 50 || now.Failed["doughnut"] <= earlier.Failed["doughnut"] {
			return fmt.Errorf("%+v, before %+v", now, earlier)
		}
		return nil
	})
	t.Logf("the bot sent %d requests in %v", now.Total-before.Total, time.Since(began).Round(time.Second))
	if now.Unexpected != earlier.Unexpected {
		t.Errorf("the bot lost %d requests: %s", now.Unexpected-earlier.Unexpected, now.LastError)
	}
	mustAnswer(t)
}
