package l7

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/loop"
	"fairlead.io/fairlead/internal/l7/routing"
)

// ErrIdentity is to be wrapped by the verification that Brain puts into its configurations, if a valid certificate is
// not the one that the peer should have.
var ErrIdentity = errors.New("peer has another identity")

var (
	errConnect   = errors.New("connect")
	errHandshake = errors.New("handshake")
	errNoReady   = errors.New("choose endpoint")
	errALPN      = errors.New("peer did not choose our protocol")
)

// link is a connection to an endpoint or an app.
type link struct {
	s        stream
	ep       *balance.Endpoint // nil for the own app
	security Security
	first    []byte // read from s and not yet passed on
	began    time.Time
}

// drop closes a link that was not needed.
func (l *link) drop() {
	if l.ep != nil {
		l.ep.Drop()
	}
	below(l.s).Close()
}

// attempts are the endpoints tried for one connection or request.
type attempts struct {
	p       *pod
	spec    *Pod
	dst     *Destination
	cluster *balance.Cluster // of dst, or of the backend that a rule has chosen
	to      *routing.Backend // that backend; nil without one
	client  netip.Addr
	hash    uint64 // that the policy wants endpoints to be chosen by, if hashed
	hashed  bool
	tried   []netip.AddrPort
}

// pick chooses the next endpoint, which counts as tried from now on.
func (a *attempts) pick() (*balance.Endpoint, error) {
	if len(a.tried) >= a.p.e.lim.Attempts {
		return nil, balance.ErrTried
	}
	again := len(a.tried) > 0
	ep, err := a.choose()
	if err == nil && again {
		a.p.e.rec.Event(a.spec, Outbound, EventRetry)
	}
	return ep, err
}

// next chooses the endpoint of a retry: one that was tried before, if there is no other.
func (a *attempts) next() (*balance.Endpoint, error) {
	ep, err := a.choose()
	if errors.Is(err, balance.ErrTried) && len(a.tried) > 0 {
		a.tried = a.tried[:0]
		return a.choose()
	}
	return ep, err
}

func (a *attempts) choose() (*balance.Endpoint, error) {
	ep := a.dst.Endpoint
	if a.cluster != nil {
		var err error
		if ep, err = a.cluster.Pick(balance.Choice{Client: a.client, Exclude: a.tried, Hash: a.hash, Hashed: a.hashed}); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoReady, err)
		}
	} else if len(a.tried) > 0 || ep == nil {
		return nil, balance.ErrTried
	}
	a.tried = append(a.tried, ep.Addr)
	return ep, nil
}

// securityOf tells what a hop to ep is protected by.
func securityOf(spec *Pod, ep *balance.Endpoint) Security {
	switch {
	case ep.Pod != nil && ep.Pod.UID == spec.UID, spec.Has(ep.Addr.Addr()):
		return SecuritySelf
	case ep.Mesh:
		return SecurityMTLS
	}
	return SecurityForeign
}

// connect reaches an endpoint by TCP. Endpoints that cannot be reached are passed over.
func (a *attempts) connect(ctx context.Context) (*link, error) {
	var last error
	for {
		ep, err := a.pick()
		if err != nil {
			return nil, errors.Join(last, err)
		}
		l, err := a.p.reach(ctx, a.spec, ep)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		last = err
	}
}

// reach connects to one endpoint, which it counts as in flight.
func (p *pod) reach(ctx context.Context, spec *Pod, ep *balance.Endpoint) (*link, error) {
	began := time.Now()
	ep.Start()
	dctx, cancel := context.WithTimeout(ctx, p.e.lim.Connect)
	defer cancel()
	c, err := p.e.brain.Dial(dctx, spec, ep.Addr)
	if err != nil {
		if ctx.Err() != nil {
			ep.Drop()
		} else {
			ep.Observe(time.Since(began), err)
		}
		return nil, fmt.Errorf("%w to %v: %w", errConnect, ep.Addr, err)
	}
	tune(c)
	return &link{s: c, ep: ep, security: securityOf(spec, ep), began: began}, nil
}

// secure shakes hands with a mesh peer. On error the link is closed.
func (p *pod) secure(ctx context.Context, spec *Pod, l *link, alpn string) error {
	if l.security != SecurityMTLS {
		return nil
	}
	began := time.Now()
	tcp := below(l.s)
	sec, err := p.handshake(ctx, spec, l.ep, tcp, alpn)
	p.e.rec.Handshake(&HandshakeRecord{Direction: Outbound, Pod: spec, PeerAddr: l.ep.Addr, Duration: time.Since(began),
		Resumed: err == nil && sec.ConnectionState().DidResume, Err: err})
	if err != nil {
		tcp.Close()
		l.ep.Observe(time.Since(l.began), err)
		return fmt.Errorf("%w with %v: %w", errHandshake, l.ep.Addr, err)
	}
	l.s = sec
	return nil
}

func (p *pod) handshake(ctx context.Context, spec *Pod, ep *balance.Endpoint, c *net.TCPConn, alpn string) (*loop.Secure, error) {
	cfg, err := p.e.brain.ClientTLS(spec, ep, alpn)
	if err != nil {
		return nil, fmt.Errorf("client configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.e.lim.Handshake)
	defer cancel()
	sec, err := loop.Client(ctx, c, cfg)
	if err != nil {
		return nil, err
	}
	if got := sec.ConnectionState().NegotiatedProtocol; got != alpn {
		return nil, errALPN
	}
	return sec, nil
}

// preface tells the receiving proxy which service its pod is dialled for.
func (a *attempts) preface() preface {
	if a.to != nil {
		return preface{Service: a.to.Service, Port: a.to.Port}
	}
	return preface{Service: a.dst.Service, Port: a.dst.Port.Number}
}

// open completes a link for an opaque connection: TLS and the preface. If the endpoint fails now, others are tried.
func (a *attempts) open(ctx context.Context, l *link) (*link, error) {
	for {
		err := a.p.secure(ctx, a.spec, l, ALPNTCP)
		if err == nil && l.security == SecurityMTLS {
			l.s.SetWriteDeadline(time.Now().Add(a.p.e.lim.Handshake))
			head := a.preface().append(nil)
			if _, err = l.s.Write(head); err != nil {
				err = fmt.Errorf("%w: send preface: %w", errHandshake, err)
				l.drop()
			}
			l.s.SetWriteDeadline(time.Time{})
		}
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		next, nextErr := a.connect(ctx)
		if nextErr != nil {
			return nil, errors.Join(err, nextErr)
		}
		l = next
	}
}

// dialCause classes the error of connect, secure and open.
func dialCause(err error) Cause {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, ErrIdentity), errors.As(err, &verification), errors.As(err, &unknown):
		return CauseIdentity
	case errors.Is(err, errHandshake):
		return CauseHandshake
	case errors.Is(err, errConnect):
		return CauseConnect
	case errors.Is(err, errNoReady):
		return CauseNoReady
	case errors.Is(err, context.Canceled):
		return CauseCancel
	}
	return CauseConnect
}

// tune sets what every connection of ours has, beside TCP_NODELAY, which package net has set.
func tune(c *net.TCPConn) {
	// It fails on a connection that has ended only.
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
}
