package l7

import (
	"context"

	"fairlead.io/fairlead/internal/mesh"
)

// outbound serves a connection that the pod's app has made.
func (f *flow) outbound() {
	ctx, cancel := context.WithTimeout(f.p.ctx, f.e.lim.Resolve)
	dst, err := f.e.brain.Outbound(ctx, f.spec, f.local)
	cancel()
	if err != nil {
		f.refuse(CauseResolve, err)
		return
	}
	f.rec.Service = dst.Service
	tries := &attempts{p: f.p, spec: f.spec, dst: dst, cluster: dst.Cluster, client: f.peer.Addr()}
	if t := dst.Routes.Table(); t != nil && (t.Kind == mesh.TLSRoute || t.Kind == mesh.TCPRoute) && !f.direct(t, tries) {
		return
	}
	f.carry(&errand{
		declared: dst.Port.Protocol,
		connect:  tries.connect,
		open:     tries.open,
		http:     func(k Kind) { f.serveHTTP(k, &route{dst: dst}) },
	})
}

// errand is what is to be done with a connection, whichever its direction.
type errand struct {
	declared mesh.Protocol
	connect  func(context.Context) (*link, error)        // reach the other side
	open     func(context.Context, *link) (*link, error) // make it ready for opaque bytes
	http     func(Kind)                                  // hand the connection over to a loop
	hello    func() bool                                 // look at a ClientHello; true if that was the end of the errand
	looked   bool                                        // ... which has been done
}

// carry finds out what the client speaks, and has it served.
func (f *flow) carry(r *errand) {
	switch r.declared {
	case mesh.TCP:
		f.rec.Kind = KindTCP
		f.opaque(r, nil, false)
	case mesh.HTTP1, mesh.HTTP2:
		f.declaredHTTP(r)
	default:
		f.undeclared(r)
	}
}

// declaredHTTP waits for the client, which speaks first. Only a ClientHello is not taken for HTTP.
func (f *flow) declaredHTTP(r *errand) {
	kind, err := f.sniff(f.e.lim.Idle)
	switch {
	case err != nil:
		f.refuse(CauseCancel, err)
	case kind == KindUnknown:
		f.refuse(CauseTimeout, nil)
	case kind == KindTLS:
		f.settled(r, kind, nil)
	case len(f.first) == 0:
		f.refuse(CauseCancel, nil) // it has closed without a word
	case kind == KindHTTP2:
		f.settled(r, KindHTTP2, nil)
	default:
		f.settled(r, KindHTTP1, nil)
	}
}

// undeclared waits for the first bytes as long as is fit, and dials meanwhile.
func (f *flow) undeclared(r *errand) {
	switch f.e.learnt.get(f.spec.UID, f.local) {
	case lessonHTTP:
		// Clients that connect before they have a request cost the server nothing, for a while. Not for ever: what was
		// learnt may be what another client has made us believe.
		kind, err := f.sniff(f.e.lim.Patience)
		switch {
		case err != nil:
			f.refuse(CauseCancel, err)
		case kind == KindUnknown:
			f.opaque(r, nil, true)
		default:
			f.settled(r, kind, nil)
		}
	case lessonServerFirst, lessonClientFirst:
		f.opaque(r, nil, true)
	default:
		d := f.dial(r.connect)
		kind, err := f.sniff(f.e.lim.Detect)
		switch {
		case err != nil:
			d.drop()
			f.refuse(CauseCancel, err)
		case kind == KindUnknown:
			f.opaque(r, d, true)
		default:
			f.settled(r, kind, d)
		}
	}
}

// settled serves a connection whose kind is known. d is what was dialled meanwhile, if anything.
func (f *flow) settled(r *errand, kind Kind, d *dialling) {
	if kind == KindTLS && r.hello != nil && !r.looked {
		r.looked = true
		if r.hello() {
			d.drop()
			return
		}
	}
	if kind == KindTLS {
		if h, p := parseHello(f.first); p == parsed {
			f.rec.SNI = h.SNI
		}
	}
	f.rec.Kind = kind
	if r.declared == mesh.Unknown {
		f.learn(kind, false)
	}
	if kind.http() {
		d.drop()
		r.http(kind)
		return
	}
	f.opaque(r, d, false)
}

func (f *flow) learn(kind Kind, serverFirst bool) {
	switch {
	case kind.http():
		f.e.learnt.put(f.spec.UID, f.local, lessonHTTP)
	case serverFirst:
		f.e.learnt.put(f.spec.UID, f.local, lessonServerFirst)
	case len(f.first) > 0:
		f.e.learnt.put(f.spec.UID, f.local, lessonClientFirst)
	}
}

// opaque forwards bytes. If the client has not spoken yet, it is first seen who does.
func (f *flow) opaque(r *errand, d *dialling, undecided bool) {
	if d == nil {
		d = f.dial(r.connect)
	}
	defer d.cancel()
	l, err := d.wait()
	if err == nil {
		l, err = r.open(f.p.ctx, l)
	}
	if err != nil {
		f.refuse(dialCause(err), err)
		return
	}
	if undecided {
		kind, serverFirst, err := f.race(l)
		if err != nil {
			below(l.s).SetLinger(0)
			l.drop()
			f.refuse(causeOf(err), nil)
			return
		}
		if !serverFirst && (kind.http() || kind == KindTLS && r.hello != nil && !r.looked) {
			f.settled(r, kind, &dialling{e: f.e, done: filled(l), cancel: func() {}})
			return
		}
		f.rec.Kind = kind
		if r.declared == mesh.Unknown {
			f.learn(kind, serverFirst)
		}
	}
	f.relay(l)
}

// filled is the channel of a dialling that is over.
func filled(l *link) chan answer {
	done := make(chan answer, 1)
	done <- answer{l: l}
	return done
}
