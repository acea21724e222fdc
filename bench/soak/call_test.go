package soak

import (
	"context"
	"testing"
	"time"
)

// TestCallAndServe has all that is called answer all that calls, without a mesh between: what fails in a soak is then not their fault.
func TestCallAndServe(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx) }()
	c := Call{To: "127.0.0.1", Anchor: "127.0.0.1", Rate: 300, Length: 2 * time.Second, Streams: 1}
	var r Report
	for deadline := time.Now().Add(20 * time.Second); ; {
		var err error
		if r, err = c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sum(r.Failed) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, k := range mix {
		if r.OK[k.name] == 0 {
			t.Errorf("no %s succeeded", k.name)
		}
	}
	if sum(r.Failed) > 0 || r.OK["grpc_stream"] == 0 || r.OK["tcp_stream"] == 0 || r.OK["grpc_anchor"] != anchors || r.OK["tcp_anchor"] != anchors {
		t.Errorf("%+v", r)
	}
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
