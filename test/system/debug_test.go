package system

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/node/debug"
	"fairlead.io/fairlead/internal/testnet"
)

// told is what the proxy of a node answers to a path.
func told[T any](t testing.TB, n *testnet.MeshNode, path string) T {
	t.Helper()
	body, err := n.Admin(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s of %s: %v in %s", path, n.Name, err, body)
	}
	return v
}

// TestWhatProxiesTell asks both nodes after requests and a connection have passed between them.
func TestWhatProxiesTell(t *testing.T) {
	needs(t, "curl")
	w := newWebs(t)
	far, service := w.servers["far"], w.services["far"][0]
	const calls = 5
	for range calls {
		curl(t, w.client, "http://"+service.String()+"/show")
	}
	here, there := w.m.Nodes[0], w.m.Nodes[1]
	id := func(p *testnet.Pod) string {
		return "spiffe://cluster.local/ns/app/sa/" + serviceAccount(t, here, there, p)
	}

	eventually(t, 5*time.Second, "requests counted for each pod", func() error {
		client, server := podOf(told[[]debug.Pod](t, here, debug.PodsPath), w.client), podOf(told[[]debug.Pod](t, there, debug.PodsPath), far)
		if !client.InMesh || !server.InMesh || client.Outbound.Requests != calls || server.Inbound.Requests != calls || server.Inbound.Failures != 0 {
			return fmt.Errorf("client %+v, server %+v", client, server)
		}
		return nil
	})
	i := slices.IndexFunc(told[[]debug.Edge](t, there, debug.EdgesPath), func(e debug.Edge) bool {
		return e.Direction == "inbound" && e.Pod.Name == far.Name && e.Peer.Name == w.client.Name && e.TLS == "mtls" && e.Requests == calls && e.Peer.Identity == id(w.client)
	})
	if i < 0 {
		t.Errorf("no edge from the client with its identity: %+v", told[[]debug.Edge](t, there, debug.EdgesPath))
	}

	services := told[[]debug.Service](t, here, debug.EndpointsPath+"?service=app/"+far.Name)
	if len(services) != 1 || !services[0].Used || len(services[0].Endpoints) != 1 || services[0].Endpoints[0].Pod != far.Name || services[0].Endpoints[0].Identity != id(far) || services[0].Endpoints[0].Latency <= 0 {
		t.Errorf("endpoints: %+v", services)
	}

	out := told[debug.Explanation](t, here, debug.ExplainPath+"?"+url.Values{"pod": {w.client.UID}, "dst": {service.String()}}.Encode())
	in := told[debug.Explanation](t, there, debug.ExplainPath+"?"+url.Values{"pod": {far.UID}, "src": {w.client.Addr(4).String()}, "port": {"8080"}}.Encode())
	for _, e := range []debug.Explanation{out, in} {
		for _, s := range e.Steps {
			if !s.OK {
				t.Errorf("on %s, %s: %s", e.Node, s.Name, s.Text)
			}
		}
	}
	if text := fmt.Sprint(out.Steps); !strings.Contains(text, "is service app/"+far.Name) || !strings.Contains(text, "mutual TLS; the server must be "+id(far)+", with a certificate of node "+there.Name) {
		t.Errorf("on the client's node: %s", text)
	}
	if text := fmt.Sprint(in.Steps); !strings.Contains(text, "it must prove to be "+id(w.client)) {
		t.Errorf("on the server's node: %s", text)
	}

	state := told[debug.Node](t, here, debug.NodePath)
	if state.Node != here.Name || !state.Controller || !state.Synced || !state.Keeper || len(state.Pending) > 0 || time.Since(state.Now).Abs() > time.Minute {
		t.Errorf("state: %+v", state)
	}
	outside := netip.MustParseAddrPort("203.0.113.1:443")
	e := told[debug.Explanation](t, here, debug.ExplainPath+"?"+url.Values{"pod": {w.client.UID}, "dst": {outside.String()}}.Encode())
	if text := fmt.Sprint(e.Steps); !strings.Contains(text, "plaintext: the address is outside the mesh") {
		t.Errorf("outside: %s", text)
	}
}

func podOf(pods []debug.Pod, p *testnet.Pod) debug.Pod {
	for _, d := range pods {
		if d.UID == p.UID {
			return d
		}
	}
	return debug.Pod{}
}

// serviceAccount is a pod's, as its node knows it; the node must have a certificate of it.
func serviceAccount(t testing.TB, here, there *testnet.MeshNode, p *testnet.Pod) string {
	t.Helper()
	for _, n := range []*testnet.MeshNode{here, there} {
		d := podOf(told[[]debug.Pod](t, n, debug.PodsPath), p)
		if d.UID == "" {
			continue
		}
		ids := told[debug.Identities](t, n, debug.IdentitiesPath)
		if !slices.ContainsFunc(ids.Identities, func(i debug.Identity) bool { return i.Namespace == "app" && i.Account == d.Account && i.Chain != "" }) {
			t.Errorf("%s has no certificate of %s", n.Name, d.Account)
		}
		return d.Account
	}
	t.Fatalf("no node has pod %s", p.Name)
	return ""
}
