package e2e

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

// held is what the product holds on a node: the agent's "holdings".
type held struct {
	Networks                      int
	Descriptors, Sockets, Entries map[string]int
	Pins, States                  int
}

func holdings(t testing.TB) map[string]held {
	t.Helper()
	out := map[string]held{}
	for _, n := range lab.nodes {
		var h held
		if err := lab.agent(t.Context(), n, &h, "holdings"); err != nil {
			t.Fatal(err)
		}
		out[n] = h
	}
	return out
}

// goroutines are those of the node's proxies and keepers, by node and role.
func goroutines(t testing.TB) map[string]int {
	t.Helper()
	out := map[string]int{}
	for node, pods := range component(t, "node") {
		for metric, role := range map[string]string{"go_goroutines": "proxy", "fairlead_keeper_goroutines": "keeper"} {
			samples, err := metrics(t, pods[0], 9901, metric)
			if err != nil || len(samples) != 1 {
				t.Fatalf("%s of %s: %v, %v", metric, pods[0], samples, err)
			}
			out[node+" "+role] = int(samples[0].value)
		}
	}
	return out
}

// testChurn makes and deletes pods for a minute, ten at a time and fifty and more in all. Each makes a connection through the mesh. What
// was held for them is given back.
func testChurn(t *testing.T) {
	ns := namespace(t, "e2e-churn", true)
	mustServe(t, server{namespace: ns, name: "strict", replicas: 2, annotations: onlyMesh})
	// One round before the count: what is made once and kept is there then.
	churnRound(t, ns, 0)
	settled := func() map[string]held {
		var last map[string]held
		eventually(t, 60*time.Second, "a state that does not change", func() error {
			now := holdings(t)
			same := last != nil
			for n := range now {
				same = same && maps.Equal(now[n].Entries, last[n].Entries) && now[n].Networks == last[n].Networks
			}
			last = now
			if !same {
				time.Sleep(2 * time.Second) // the pause of the poll
				return fmt.Errorf("it changes: %+v", now)
			}
			return nil
		})
		return last
	}
	before, routines := settled(), goroutines(t)
	began, rounds := time.Now(), 0
	for time.Since(began) < time.Minute || rounds < 5 {
		rounds++
		churnRound(t, ns, rounds)
	}
	t.Logf("%d pods came and went in %v", 10*rounds, time.Since(began).Round(time.Second))
	var worse []string
	eventually(t, 60*time.Second, "all that was held for them given back", func() error {
		worse = compare(before, holdings(t))
		if len(worse) > 0 {
			return fmt.Errorf("%s", strings.Join(worse, "; "))
		}
		return nil
	})
	eventually(t, 30*time.Second, "their goroutines gone", func() error {
		now := goroutines(t)
		for who, n := range routines {
			if now[who] > n+10 {
				return fmt.Errorf("%s has %d goroutines, had %d", who, now[who], n)
			}
		}
		return nil
	})
}

// compare says what is more than before. Descriptors may differ by what is open just now.
func compare(before, now map[string]held) (worse []string) {
	for node, b := range before {
		n := now[node]
		if n.Networks > b.Networks {
			worse = append(worse, fmt.Sprintf("%s: %d network namespaces, %d before", node, n.Networks, b.Networks))
		}
		for name, k := range n.Entries {
			if k > b.Entries[name] {
				worse = append(worse, fmt.Sprintf("%s: %d entries of %s, %d before", node, k, name, b.Entries[name]))
			}
		}
		for role, k := range n.Descriptors {
			if k > b.Descriptors[role]+12 {
				worse = append(worse, fmt.Sprintf("%s: %d descriptors of the %s, %d before", node, k, role, b.Descriptors[role]))
			}
		}
		for role, k := range n.Sockets {
			if k > b.Sockets[role]+8 {
				worse = append(worse, fmt.Sprintf("%s: %d sockets of the %s, %d before", node, k, role, b.Sockets[role]))
			}
		}
		if n.Pins > b.Pins || n.States > b.States {
			worse = append(worse, fmt.Sprintf("%s: %d pins and %d files, %d and %d before", node, n.Pins, n.States, b.Pins, b.States))
		}
	}
	return worse
}

// churnRound makes ten pods, waits until each has made its call, and deletes them.
func churnRound(t testing.TB, ns string, round int) {
	t.Helper()
	var manifest strings.Builder
	for i := range 10 {
		fmt.Fprintf(&manifest, `
---
apiVersion: v1
kind: Pod
metadata: {name: churn-%[1]d-%[2]d, namespace: %[3]s, labels: {churn: "%[1]d"}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers: [{name: load, image: %[4]q, command: [/load, run, -mode=h1new, "-to=strict:80", -calls=1, -workers=1, -for=20s, -limit=15s]}]
`, round, i, ns, image)
	}
	lab.apply(t, manifest.String())
	label := fmt.Sprintf("churn=%d", round)
	eventually(t, 90*time.Second, "end of the pods of a round", func() error {
		phases, err := lab.try(t.Context(), "-n", ns, "get", "pods", "-l", label, "-o", "jsonpath={.items[*].status.phase}")
		if err == nil && strings.Count(phases, "Succeeded") != 10 {
			err = fmt.Errorf("they are %s", phases)
		}
		return err
	})
	var logs sync.WaitGroup
	for i := range 10 {
		logs.Go(func() {
			name := fmt.Sprintf("churn-%d-%d", round, i)
			out, err := lab.try(t.Context(), "-n", ns, "logs", name)
			if err != nil || !strings.Contains(out, `"OK":1`) {
				t.Errorf("the call of %s: %v %s", name, err, out)
			}
		})
	}
	logs.Wait()
	lab.kubectl(t, "-n", ns, "delete", "pods", "-l", label, "--timeout=60s")
}
