package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// TestEnrolAndLeave has a namespace join and leave ten times under load in both directions. Nobody notices.
func TestEnrolAndLeave(t *testing.T) {
	t.Parallel()
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
	for round := range 10 {
		for _, step := range []struct{ value, says string }{{"", "pod left the mesh"}, {"enabled", "pod captured"}} {
			if err := m.Lab.LabelNamespace("app", map[string]string{"fairlead.io/mesh": step.value}); err != nil {
				t.Fatal(err)
			}
			times := round + 1
			if step.value != "" {
				times++ // the first was when the pods started
			}
			for _, n := range []string{"n1", "n2"} {
				eventually(t, 10*time.Second, step.says+" on "+n, func() error {
					log, err := os.ReadFile(filepath.Join(m.Lab.LogDir(), n+"-keeper.log"))
					if got := bytes.Count(log, []byte(step.says)); err != nil || got < times {
						return fmt.Errorf("%d times, %v", got, err)
					}
					return nil
				})
			}
			pause(t, 300*time.Millisecond)
		}
	}
	for _, l := range loads {
		mustFlawless(t, l, l.stop(t), 200)
	}
	mustReach(t, p.client, p.web, "server")
}
