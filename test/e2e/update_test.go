package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// traffic is load of every kind that goes on while something happens.
type traffic struct {
	loads map[string]load
	began time.Time
}

// longest is how long it goes on if nobody ends it.
const longest = 5 * time.Minute

// startTraffic starts, in both directions between two nodes, requests and connections of every kind to "strict".
func startTraffic(t testing.TB, ns string) *traffic {
	t.Helper()
	tr := &traffic{loads: map[string]load{}, began: time.Now()}
	for i, mode := range []string{"h1", "h1new", "h2", "tcp"} {
		to := "strict:80"
		if mode == "tcp" {
			to = "strict:9000"
		}
		tr.loads[mode] = startLoad(t, ns, "traffic-"+mode, lab.nodes[i%2], "-mode="+mode, "-to="+to, "-rate=25", "-workers=2", "-limit=15s", "-for="+longest.String())
	}
	return tr
}

// mustEndFlawless ends all loads: not one call was refused, reset or answered by anything but the server. One that has ended by
// itself would have shown nothing of what happened since.
func (tr *traffic) mustEndFlawless(t testing.TB, what string) {
	t.Helper()
	atLeast := int(time.Since(tr.began).Seconds()) * 25 / 2
	t.Logf("%s was over %v after the traffic began", what, time.Since(tr.began).Round(time.Second))
	for mode, l := range tr.loads {
		mustFlawless(t, mode+" during "+what, l.end(t), atLeast)
	}
}

// testUpdate rolls all node proxies over to new pods under load. Connections that are over in time are never noticed; a
// TCP stream that does not end is carried by the old proxy until its drain's end, and counted then.
func testUpdate(t *testing.T) {
	ns := namespace(t, "e2e-update", true)
	mustServe(t, server{namespace: ns, name: "strict", replicas: 2, annotations: onlyMesh})
	tr := startTraffic(t, ns)
	stream := startLoad(t, ns, "stream", lab.nodes[0], "-mode=stream", "-workers=3", "-rate=15", "-to=strict:9000", "-for="+longest.String())
	olds := component(t, "node")
	logs := map[string]func() string{}
	for node, pods := range olds {
		logs[node] = follow(t, pods[0], "proxy")
	}
	helm(t, append([]string{"upgrade", "fairlead", chart, "-n", systemNamespace, "--force-conflicts", "--set-string", "node.podAnnotations.e2e/updated=" + fmt.Sprint(time.Now().Unix())}, settings()...)...)
	lab.kubectl(t, "-n", systemNamespace, "rollout", "status", "daemonset/fairlead-node", "--timeout=140s")
	eventually(t, 100*time.Second, "end of the old pods", func() error {
		now := component(t, "node")
		for node, pods := range now {
			if len(pods) != 1 || pods[0] == olds[node][0] {
				return fmt.Errorf("%s has %v, before %v", node, pods, olds[node])
			}
		}
		return nil
	})
	time.Sleep(3 * time.Second) // with nothing but the new ones
	tr.mustEndFlawless(t, "the update")
	r := stream.wait(t, 60*time.Second) // it ends with its streams
	t.Logf("streams without an end: %v", r)
	if r.Refused > 0 || r.OK < 100 {
		t.Errorf("streams: %v", r)
	}
	cut := 0
	for node, text := range logs {
		d, err := drainedLine(text())
		if err != nil {
			t.Errorf("the old proxy of %s does not say what it has drained: %v", node, err)
			continue
		}
		t.Logf("%s: %+v", node, d)
		cut += d.CutOff["tcp"]
	}
	if r.Reset == 0 || cut < r.Reset {
		t.Errorf("%d streams were reset, and the old proxies report %d that they have cut off", r.Reset, cut)
	}
}

// drained is what a proxy says at the end of its drain.
type drained struct {
	Msg     string         `json:"msg"`
	InOrder map[string]int `json:"in_order_by_protocol"`
	CutOff  map[string]int `json:"cut_off_by_protocol"`
}

func drainedLine(log string) (drained, error) {
	for line := range strings.Lines(log) {
		var d drained
		if json.Unmarshal([]byte(line), &d) == nil && d.Msg == "drained" {
			return d, nil
		}
	}
	return drained{}, fmt.Errorf("no line \"drained\" in %.2000q", log)
}

// follow reads a container's log until it ends.
func follow(t testing.TB, pod, container string) func() string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	done := make(chan string, 1)
	go func() {
		out, err := command(ctx, lab.Kubectl, "--kubeconfig", lab.Kubeconfig, "-n", systemNamespace, "logs", "-f", "--tail=5", pod, "-c", container)
		if err != nil {
			out = append(out, err.Error()...)
		}
		done <- string(out)
	}()
	return func() string {
		defer cancel()
		select {
		case out := <-done:
			return out
		case <-time.After(90 * time.Second):
			cancel()
			return <-done
		}
	}
}

// testThreeControllers: with three of them the leader is killed and a node drained, and nobody notices.
func testThreeControllers(t *testing.T) {
	ns := namespace(t, "e2e-three", true)
	mustServe(t, server{namespace: ns, name: "strict", replicas: 2, annotations: onlyMesh})
	helm(t, append([]string{"upgrade", "fairlead", chart, "-n", systemNamespace, "--wait", "--timeout", "3m", "--force-conflicts", "-f", chart + "/values-ha.yaml"}, settings()...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := tryHelm(ctx, "rollback", "fairlead", "-n", systemNamespace, "--force-conflicts", "--wait", "--timeout", "2m"); err != nil {
			t.Error(err)
		}
	})
	if n := lab.kubectl(t, "-n", systemNamespace, "get", "deploy", "fairlead-controller", "-o", "jsonpath={.status.readyReplicas}"); n != "3" {
		t.Fatalf("%s controllers are ready", n)
	}
	// The upgrade has a leader's end of its own, and a service that no pod of a node has called before has to be asked for.
	for i, node := range lab.nodes {
		try := 0
		eventually(t, time.Minute, "the service, called from "+node, func() error {
			try++
			if r := call(t, ns, fmt.Sprintf("settled-%d-%d", i+1, try), node, "h1new", "strict:80", "-calls=1", "-workers=1"); r.OK == 0 {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
	tr := startTraffic(t, ns)
	old, err := leader(t)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	home := lab.kubectl(t, "-n", systemNamespace, "get", "pod", old, "-o", "jsonpath={.spec.nodeName}")
	kill(t, home, "/controller --source=kubernetes") // so that it gives nothing back
	lab.kubectl(t, "-n", systemNamespace, "delete", "pod", old, "--grace-period=0", "--force")
	eventually(t, 40*time.Second, "a new leader", func() error {
		now, err := leader(t)
		if err == nil && now == old {
			err = fmt.Errorf("it is the one that was killed")
		}
		return err
	})
	t.Logf("a new leader after %v", time.Since(began).Round(time.Second))
	lab.apply(t, once(ns, "after-kill", lab.nodes[1], "strict:80"))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/after-kill", "--timeout=60s")
	mustHaveCalled(t, ns, "after-kill")
	t.Logf("a new pod was in the mesh %v after the leader's end", time.Since(began).Round(time.Second))

	// Drain the node of the new leader, but for the pods that make and take this test's traffic, and the name server.
	now, err := leader(t)
	if err != nil {
		t.Fatal(err)
	}
	node := lab.kubectl(t, "-n", systemNamespace, "get", "pod", now, "-o", "jsonpath={.spec.nodeName}")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := lab.try(ctx, "uncordon", node); err != nil {
			t.Error(err)
		}
	})
	lab.kubectl(t, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector", "app notin (strict, traffic-h1, traffic-h1new, traffic-h2, traffic-tcp), k8s-app!=kube-dns", "--timeout=80s")
	eventually(t, 40*time.Second, "a leader on another node", func() error {
		holder, err := leader(t)
		if err == nil && holder == now {
			err = fmt.Errorf("it is the one that was drained")
		}
		return err
	})
	lab.apply(t, once(ns, "after-drain", otherNode(node), "strict:80"))
	lab.kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod/after-drain", "--timeout=60s")
	mustHaveCalled(t, ns, "after-drain")
	tr.mustEndFlawless(t, "the leader's end and the drain")
}

func otherNode(node string) string {
	for _, n := range lab.nodes {
		if n != node {
			return n
		}
	}
	return node
}
