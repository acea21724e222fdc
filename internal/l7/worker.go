package l7

import (
	"context"

	"fairlead.io/fairlead/internal/l7/loop"
)

// worker is one loop and what belongs to it.
type worker struct {
	e *Engine
	l *loop.Loop
}

func newWorker(e *Engine, l *loop.Loop) *worker { return &worker{e: e, l: l} }

func (w *worker) run(ctx context.Context, ended chan<- error) { ended <- w.l.Run(ctx) }

// forget closes what a pod has left behind on the loop.
func (w *worker) forget(*pod) {}

// route is where the requests of a connection go: to a destination, or to the own app.
type route struct {
	dst     *Destination
	in      *arrival
	private bool // the client is a proxy of the mesh
}

func (f *flow) serveHTTP(k Kind, r *route) { f.refuse(CauseInternal, nil) }
