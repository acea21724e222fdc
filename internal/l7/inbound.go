package l7

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/loop"
)

var errRefused = errors.New("refused by policy")

// ErrUndecided is what Brain.Authorize returns, or wraps, while it does not know what it decides by. A connection that has
// come is refused after Limits.Resolve; one that lives goes on.
var ErrUndecided = errors.New("not decided yet")

// inbound serves a connection that came from outside the pod.
func (f *flow) inbound() {
	origin := f.e.brain.Origin(f.spec, f.peer)
	f.rec.Peer = origin.Pod
	in := &arrival{f: f, Arrival: Arrival{Pod: f.spec, Peer: f.peer, Origin: origin, Port: f.local.Port()}}
	in.plainErr = in.authorize()
	plain := in.security() // asked now: the app may be dialled beside a handshake, which changes it
	r := &errand{connect: func(ctx context.Context) (*link, error) { return in.dialApp(ctx, plain) },
		open: in.openPlain, hello: in.hello,
		http: func(k Kind) { f.serveHTTP(k, &route{in: in}) }}
	if origin.Mesh || in.plainErr != nil {
		in.await(r)
		return
	}
	f.carry(r)
}

// arrival is an inbound connection on its way to the app.
type arrival struct {
	Arrival
	f        *flow
	plainErr error // why it is refused unless it turns out to be mutual TLS
}

// authorize asks the Brain, and leaves what it asked about for Reauthorize.
func (in *arrival) authorize() error {
	if in.TLS != nil && in.Client == nil {
		in.Client = in.f.e.brain.Client(&in.Arrival)
	}
	a := in.Arrival
	in.f.admitted.Store(&a)
	return in.f.e.brain.Authorize(&a)
}

// await gives a peer that should speak mutual TLS the time to begin. What it says else is taken as it is: its node
// may not know yet that this pod is in the mesh.
func (in *arrival) await(r *errand) {
	f := in.f
	kind, err := f.sniff(f.e.lim.Hello)
	if err != nil {
		f.refuse(CauseCancel, err)
		return
	}
	if kind == KindTLS {
		r.looked = true
		if in.hello() {
			return
		}
	}
	if kind != KindUnknown && len(f.first) == 0 && !f.cut.Load() {
		// It has closed without a word: its node dialled while it looked at the client's bytes, and had no use for the
		// connection. What a client of the mesh closes without a word comes after a handshake.
		f.refuse(CauseCancel, nil)
		return
	}
	in.decide()
	if in.plainErr != nil {
		in.reject(kind)
		return
	}
	if kind == KindUnknown {
		f.opaque(r, nil, true)
		return
	}
	f.settled(r, kind, nil)
}

// decide asks again about plaintext, if the answer was that it is not known yet, as soon as it is.
func (in *arrival) decide() { in.plainErr = in.decided(in.plainErr) }

// decided asks again, if the answer was that it is not known yet, as soon as it is.
func (in *arrival) decided(err error) error {
	if !errors.Is(err, ErrUndecided) {
		return err
	}
	f := in.f
	ctx, cancel := context.WithTimeout(f.p.ctx, f.e.lim.Resolve)
	defer cancel()
	f.e.brain.Decided(ctx, f.spec)
	in.Origin = f.e.brain.Origin(f.spec, f.peer)
	f.rec.Peer = in.Origin.Pod
	return in.authorize()
}

// reject refuses plaintext: with an answer to HTTP, and with a reset to everything else. A reset is also for what passes by
// itself, and so is no answer to a request: that the reason is not known, and that the peer's node does not know yet that
// this pod is in the mesh.
func (in *arrival) reject(kind Kind) {
	if kind.http() && !in.Origin.Mesh && !errors.Is(in.plainErr, ErrUndecided) {
		in.f.warn(CauseRefused, in.plainErr)
		in.f.serveHTTP(kind, &route{in: in, refused: in.plainErr})
		return
	}
	in.f.rec.Kind = kind
	in.refused()
	in.f.refuse(CauseRefused, in.plainErr)
}

// hello looks for the mesh in a ClientHello, and serves the connection if it is there.
func (in *arrival) hello() bool {
	h := in.f.hello()
	if h == nil || !h.ours() {
		return false
	}
	in.mutual()
	return true
}

// mutual serves a connection of a mesh peer.
func (in *arrival) mutual() {
	f := in.f
	began := time.Now()
	if !f.p.shakes.AllowN(began, 1) { // a peer's node tries another endpoint
		f.e.rec.Event(f.spec, f.dir, EventHandshakeLimit)
		f.refuse(CauseLimit, nil)
		return
	}
	sec, err := in.handshake()
	f.e.rec.Handshake(&HandshakeRecord{Direction: Inbound, Pod: f.spec, PeerAddr: f.peer, Duration: time.Since(began),
		Resumed: err == nil && sec.ConnectionState().DidResume, Err: err})
	if err != nil {
		f.rec.Security = SecurityNone
		f.refuseHandshake(err)
		return
	}
	state := sec.ConnectionState()
	in.TLS = &state
	f.down, f.first, f.rec.Security = sec, nil, SecurityMTLS
	err = in.decided(in.authorize())
	if err != nil && (state.NegotiatedProtocol != ALPNHTTP || !errors.Is(err, ErrDenied)) {
		in.refused()
		f.refuse(CauseRefused, err)
		return
	}
	if state.NegotiatedProtocol == ALPNHTTP { // what is denied is answered, request by request
		f.rec.Kind = KindHTTP2
		f.serveHTTP(KindHTTP2, &route{in: in, private: true})
		return
	}
	in.mutualTCP(sec)
}

// shakeBytes is what a handshake that is under way counts as in the pod's budget.
const shakeBytes = 8 << 10

func (in *arrival) handshake() (*loop.Secure, error) {
	f := in.f
	var kept exchange.Account
	kept.Open(f.budget())
	kept.Set(shakeBytes)
	defer kept.Set(0)
	cfg, err := f.e.brain.ServerTLS(f.spec, f.peer)
	if err != nil {
		return nil, fmt.Errorf("server configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(f.p.ctx, f.e.lim.Handshake)
	defer cancel()
	sec, err := loop.Server(ctx, f.c, f.first, cfg)
	if err != nil {
		return nil, err
	}
	if p := sec.ConnectionState().NegotiatedProtocol; p != ALPNHTTP && p != ALPNTCP {
		return nil, errALPN
	}
	return sec, nil
}

// refuseHandshake ends a connection whose handshake failed. The alert that says why is on its way: no reset.
func (f *flow) refuseHandshake(err error) {
	_ = f.c.CloseWrite() // the peer may be gone: then reading ends at once
	f.c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 1024)
	for range 64 {
		if _, err := f.c.Read(buf); err != nil {
			break
		}
	}
	cause := dialCause(err)
	if cause == CauseConnect {
		cause = CauseHandshake
	}
	f.refuse(cause, nil)
}

func (in *arrival) mutualTCP(sec *loop.Secure) {
	f := in.f
	sec.SetReadDeadline(time.Now().Add(f.e.lim.Handshake))
	said, err := readPreface(sec)
	sec.SetReadDeadline(time.Time{})
	if err != nil {
		f.refuse(CauseProtocol, err)
		return
	}
	f.rec.Kind = KindTCP
	f.rec.Service = said.Service
	l, err := in.dialApp(f.p.ctx, SecurityMTLS)
	if err != nil {
		f.refuse(CauseConnect, err)
		return
	}
	f.relay(l)
}

// dialApp reaches the pod's own app, as the client.
func (in *arrival) dialApp(ctx context.Context, s Security) (*link, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, in.f.e.lim.Connect)
	defer cancel()
	c, err := in.f.e.brain.DialApp(ctx, in.f.spec, in.Peer.Addr(), in.f.local)
	if err != nil {
		return nil, fmt.Errorf("%w to the app: %w", errConnect, err)
	}
	tune(c)
	return &link{s: c, security: s, began: began}, nil
}

func (in *arrival) security() Security {
	switch {
	case in.TLS != nil:
		return SecurityMTLS
	case in.Pod.Has(in.Peer.Addr()):
		return SecuritySelf
	}
	return SecurityForeign
}

// openPlain is the last gate before a plaintext client's bytes reach the app.
func (in *arrival) openPlain(_ context.Context, l *link) (*link, error) {
	if in.plainErr != nil {
		l.drop()
		return nil, fmt.Errorf("%w: %w", errRefused, in.plainErr)
	}
	return l, nil
}

// peerState is the TLS state of a mesh peer, or nil.
func (in *arrival) peerState() *tls.ConnectionState {
	if in == nil {
		return nil
	}
	return in.TLS
}
