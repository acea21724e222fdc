package node

import (
	"net/netip"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/policy"
)

// TestExplainNamesThePolicy asks for what debugging tells.
func TestExplainNamesThePolicy(t *testing.T) {
	w := newWorld()
	b := testBrain(w)
	b.metrics, _ = testMetrics(t)
	local := &l7.Pod{UID: db.UID, Name: db.Name, Addrs: db.Addrs}
	w.apply(mesh.Delta{Pods: []*mesh.Pod{db, webRow}})
	check := func(src netip.Addr, plain, mutual string) {
		t.Helper()
		p, m := b.explain(local, src, 3306)
		if !strings.Contains(p, plain) || !strings.Contains(m, mutual) {
			t.Errorf("%v: %q and %q, want %q and %q", src, p, m, plain, mutual)
		}
	}
	check(webIP, "passes", "passes")
	w.apply(denyWeb())
	check(webIP, "is refused (DENY data/no-web, rule 0)", "is refused (DENY data/no-web, rule 0)")
	check(strange, "passes (default policy allow)", "passes (default policy allow)")
	w.apply(denyWeb(secret))
	check(webIP, "each request is asked about; of opaque bytes is refused (DENY data/no-web, rule 0)", "each request")
	s := w.Snapshot()
	e := b.deciders.of(s, local, s.Pod(db.UID))
	who := policy.Client{Account: webRow.Account, Authenticated: true}
	e.count(b.metrics, l7.Inbound, e.Request(&who, 3306, nil))
	rules := e.list()
	if len(rules) != 1 || rules[0].Policy != "no-web" || rules[0].Action != "DENY" || rules[0].Denied != 1 {
		t.Errorf("%+v", rules)
	}
	if b.deciders.of(s, local, s.Pod(db.UID)) != e {
		t.Error("made anew while nothing has changed")
	}
	w.apply(dbRow(mesh.PolicyDeny))
	b.deciders.sweep(w.Snapshot())
	if now := b.Policy(local); now == any(e) {
		t.Error("the decider stays when the row has changed")
	}
}
