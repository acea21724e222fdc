package system

import (
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestEnrolAndLeave has a namespace join and leave ten times under load in both directions. Nobody notices.
func TestEnrolAndLeave(t *testing.T) {
	m := newMesh(t, testnet.MeshConfig{})
	p := newPair(t, m)
	mustServe(t, p.client)
	mustReach(t, p.server, webAddr(p.client), "client")
	loads := []*load{
		startLoad(t, p.client, "stream", p.echo, "-workers=1", "-rate=20"),
		startLoad(t, p.client, "upgrade", p.web, "-workers=1", "-rate=20"),
		startLoad(t, p.client, "h1", p.web, "-rate=70"),
		startLoad(t, p.client, "h1new", p.web, "-rate=70"),
		startLoad(t, p.client, "tcp", p.echo, "-rate=60"),
		startLoad(t, p.server, "h1", webAddr(p.client), "-rate=100"),
		startLoad(t, p.server, "h1new", webAddr(p.client), "-rate=100"),
	}
	for range 10 {
		for _, value := range []string{"", "enabled"} {
			if err := m.Lab.LabelNamespace("app", map[string]string{"fairlead.io/mesh": value}); err != nil {
				t.Fatal(err)
			}
			pause(t, 700*time.Millisecond)
		}
	}
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 200)
	}
	mustReach(t, p.client, p.web, "server")
}
