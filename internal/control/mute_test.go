package control_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func nil2(mesh.Name) bool { return false }

// mute is a proxy that acknowledges only when the test says so.
type mute struct {
	stream controlpb.Controller_DiscoverClient
	last   uint64
}

func (p *plane) conn(node string) *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(credentials.NewTLS(p.proxyTarget(node).TLS)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256<<20)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *plane) muteProxy(node string) *mute {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	p.t.Cleanup(cancel)
	s, err := controlpb.NewControllerClient(p.conn(node)).Discover(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.Send(&controlpb.DiscoverUp{Node: node}); err != nil {
		p.t.Fatal(err)
	}
	return &mute{stream: s}
}

// await receives until a message satisfies the condition on "it says that a pod is outside the mesh, or none is in it".
func (m *mute) await(t *testing.T, ok func(outside bool) bool) {
	t.Helper()
	for {
		d, err := m.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		m.last = d.GetDelta().GetVersion()
		outside := false
		for _, pod := range d.GetDelta().GetPods() {
			outside = outside || !pod.GetInMesh()
		}
		if ok(outside) {
			return
		}
	}
}

// ackAll acknowledges everything received; it receives first if nothing was.
func (m *mute) ackAll(t *testing.T) {
	t.Helper()
	if m.last == 0 {
		m.await(t, func(bool) bool { return true })
	}
	if err := m.stream.Send(&controlpb.DiscoverUp{Acked: m.last}); err != nil {
		t.Fatal(err)
	}
}

// restart starts the controller anew at the same address, with a world read anew.
func (p *plane) restart() {
	p.t.Helper()
	p.world = compile.NewWorld(compile.Config{})
	p.dir = compile.NewDir(compile.DirConfig{Path: p.path, World: p.world})
	if err := p.dir.Load(); err != nil {
		p.t.Fatal(err)
	}
	p.cfg.World = p.world
	p.serve()
}
