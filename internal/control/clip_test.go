package control_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/mesh"
)

// Anybody who reaches the port can ask; what is logged of it is short.
func TestWhatAPeerCallsItselfDoesNotFillTheLog(t *testing.T) {
	var log bytes.Buffer // the handler locks it; read after the server has ended
	p := newPlane(t, func(c *control.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	stop := p.serve()
	long := strings.Repeat("n", 100_000)
	if _, err := issue(t, withNode(p.target("a", nil), long), "", control.Subject{}); err == nil {
		t.Error("signed without proof")
	}
	if _, err := issue(t, withNode(p.target("a", nil), long), "token-of-a", control.Subject{}); err == nil {
		t.Error("signed for another node")
	}
	issued, err := issue(t, p.keeperTarget("a"), "", control.Subject{Account: mesh.Account{Namespace: "shop", Name: long}})
	if err != nil || issued[0].Refused == nil || len(issued[0].Refused.Error()) > 1000 {
		t.Error("a long account was not refused in few words")
	}
	stop()
	if n := strings.Count(log.String(), "certificate request"); n != 3 || log.Len() > 5000 {
		t.Errorf("%d entries, %d bytes", n, log.Len())
	}
}
