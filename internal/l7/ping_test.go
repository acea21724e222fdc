package l7

import (
	"log/slog"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange/wiretest"
	"fairlead.io/fairlead/internal/l7/loop"
)

// TestSilentClients: one that is a proxy of the mesh is asked whether it lives, and given up without an answer. Others are left alone.
func TestSilentClients(t *testing.T) {
	for name, private := range map[string]bool{"mesh": true, "public": false} {
		t.Run(name, func(t *testing.T) {
			l, err := loop.New(slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			e := New(Config{})
			s := &httpSession{f: &flow{e: e, p: &pod{}}, w: newWorker(e, l), route: &route{private: private}}
			w := &wiretest.Wire{}
			p := s.start(w, KindHTTP2)
			w.Feed(p, newScript().out, 1<<20)
			w.Sched.Advance(meshPing)
			w.Out = nil
			w.Sched.Advance(meshPing)
			if got := strings.Contains(string(w.Out), "\x06\x00\x00\x00\x00\x00alive"); got != private {
				t.Errorf("a PING was sent: %t", got)
			}
			w.Sched.Advance(meshPing)
			if w.Aborted != private {
				t.Errorf("given up: %t", w.Aborted)
			}
		})
	}
}
