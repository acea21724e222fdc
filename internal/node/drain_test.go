package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7"
)

// What ends before the drain is not counted; what ends in it is, by protocol and by how it ended, and one line says it all.
func TestDrainIsCounted(t *testing.T) {
	m, reg := testMetrics(t)
	d := newDrains(reg, m)
	var out lines
	log := slog.New(slog.NewTextHandler(&out, nil))
	end := func(k l7.Kind, c l7.Cause) {
		r := &l7.ConnRecord{Direction: l7.Outbound, Pod: webPod, Kind: k}
		d.ConnOpened(r)
		r.Cause = c
		d.ConnClosed(r)
	}
	end(l7.KindTCP, l7.CauseNone)
	d.say(log)
	if out.count("drained") != 0 {
		t.Error("a drain is told that was none")
	}
	d.begin()
	end(l7.KindHTTP1, l7.CauseNone)
	end(l7.KindHTTP2, l7.CauseReset)
	end(l7.KindTCP, l7.CauseDrain)
	d.ConnRefused(&l7.ConnRecord{Direction: l7.Inbound, Pod: webPod, Cause: l7.CauseDrain})
	want := `
# HELP fairlead_proxy_drained_connections_total Connections that ended while the proxy drained, by protocol and by whether they ended in order or were cut off.
# TYPE fairlead_proxy_drained_connections_total counter
fairlead_proxy_drained_connections_total{end="cut_off",protocol="tcp"} 1
fairlead_proxy_drained_connections_total{end="cut_off",protocol="unknown"} 1
fairlead_proxy_drained_connections_total{end="in_order",protocol="http1"} 1
fairlead_proxy_drained_connections_total{end="in_order",protocol="http2"} 1
# HELP fairlead_proxy_draining 1 while the proxy ends its connections, to exit.
# TYPE fairlead_proxy_draining gauge
fairlead_proxy_draining 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_proxy_drained_connections_total", "fairlead_proxy_draining"); err != nil {
		t.Error(err)
	}
	d.say(log)
	if out.count(`msg=drained in_order=2 cut_off=2 in_order_by_protocol="map[http1:1 http2:1]" cut_off_by_protocol="map[tcp:1 unknown:1]"`) != 1 {
		t.Errorf("the last word: %s", out.b.String())
	}
}

// Ready needs the keeper, and all that it has to tell; the keeper learns that the proxy can serve, and the proxy that it has a
// successor. Another keeper begins anew.
func TestKeeperKnowsWhenTheProxyServes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.sock")
	k := &keeperEnd{pod: "a"}
	stop := k.serve(t, path)
	l, p := runLink(t, path, slog.New(slog.DiscardHandler))
	eventually(t, "everything is told", p.isSynced)
	if !p.superseded().IsZero() {
		t.Error("superseded before it serves")
	}
	ctx, cancel := context.WithCancel(t.Context())
	announced := make(chan error, 1)
	go func() { announced <- l.announce(ctx) }()
	eventually(t, "the keeper knows, and has answered", func() bool { return !p.superseded().IsZero() })
	stop()
	eventually(t, "without a keeper it is not ready", func() bool { return !p.isSynced() })
	k.serve(t, path)
	eventually(t, "the next keeper is told too", func() bool { return p.isSynced() && !p.superseded().IsZero() })
	cancel()
	if err := <-announced; err != nil {
		t.Error(err)
	}
}

// The drain of a proxy without connections ends at once if nobody takes over, and waits for stragglers if somebody does.
func TestDrainEnds(t *testing.T) {
	for name, superseded := range map[string]bool{"alone": false, "with a successor": true} {
		t.Run(name, func(t *testing.T) {
			n := newNode(Config{Drain: time.Minute, Log: slog.New(slog.DiscardHandler)})
			if superseded {
				n.pods.Superseded()
			}
			engine := l7.New(l7.Config{Loops: 1})
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- engine.Run(ctx) }()
			began := time.Now()
			n.drain(t.Context(), engine)
			if took := time.Since(began); superseded != (took >= stragglers-100*time.Millisecond) || took > stragglers+5*time.Second {
				t.Errorf("it took %v", took)
			}
			pending := strings.Join(n.ready.Pending(), ", ")
			if !strings.Contains(pending, "its end: it drains") || !strings.Contains(pending, "the keeper, and the pods") {
				t.Errorf("ready waits for %s", pending)
			}
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
		})
	}
}
