package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// World is what the brain sees of the controller's client.
type World interface {
	// Snapshot is the world as it is known now.
	Snapshot() *mesh.Snapshot
	// Synced is false until the snapshot is the controller's, or one that the controller has signed.
	Synced() bool
	// Connected tells whether the controller is there now.
	Connected() bool
	// Subscribe asks for a service's endpoints. Doing it twice does no harm.
	Subscribe(mesh.Name)
	// Unsubscribe takes it back.
	Unsubscribe(mesh.Name)
	// Changed receives a value after each change of the snapshot. It holds one.
	Changed() <-chan struct{}
	// Wait returns as soon as a snapshot satisfies the condition.
	Wait(ctx context.Context, ok func(*mesh.Snapshot) bool) (*mesh.Snapshot, error)
}

var (
	// ErrNoPort is returned for a service that has no such port.
	ErrNoPort = errors.New("the service has no such port")
	// ErrNoTable is returned while the address table is not known: nothing may be guessed without it.
	ErrNoTable = errors.New("no address table yet")
)

// brain answers the engine's questions from the snapshot. It implements l7.Brain.
type brain struct {
	world    World
	clusters *clusters
	tables   *tables
	creds    *credentials
	dialer   *Dialer
	backends *backends
	deciders deciders
	metrics  *metrics // of what is decided; nothing is counted without
}

var _ l7.Brain = (*brain)(nil)

// Outbound tells what an address stands for: a service in any of its forms, a pod, or an address outside the table.
func (b *brain) Outbound(ctx context.Context, p *l7.Pod, dst netip.AddrPort) (*l7.Destination, error) {
	s, err := b.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	svc, port, mapped, err := b.service(s, dst)
	if err != nil {
		return nil, err
	}
	if svc == nil {
		return &l7.Destination{Addr: dst, Endpoint: endpointAt(s, dst)}, nil
	}
	if s, err = b.withEndpoints(ctx, s, svc.Name); err != nil {
		return nil, err
	}
	row := rowOf(s.Routes(svc.Name), port.Number, p.Name.Namespace)
	s = b.withBackends(ctx, s, row)
	live := b.tables.get(s, svc, port, dst.Addr(), p.Name.Namespace)
	port.Protocol = declared(port, row)
	return &l7.Destination{Addr: dst, Service: svc.Name, Port: port, Cluster: b.clusters.get(s, svc, port, dst.Addr()), Mapped: mapped, Routes: live}, nil
}

// service is the service and port that an address stands for; nil if it is none's. mapped: the address is a backend's, which
// somebody else has put in the place of the service's.
func (b *brain) service(s *mesh.Snapshot, dst netip.AddrPort) (svc *mesh.Service, port mesh.Port, mapped bool, err error) {
	svc, port, ok := s.ServiceByAddr(dst)
	if mapped = svc == nil; mapped {
		svc, port, ok = b.backends.behind(s, dst)
	}
	if svc != nil && !ok {
		return nil, mesh.Port{}, false, fmt.Errorf("%v, %s: %w", dst, svc.Name, ErrNoPort)
	}
	return svc, port, mapped, nil
}

// endpointAt is the endpoint of an address that is dialled as it is.
func endpointAt(s *mesh.Snapshot, dst netip.AddrPort) *balance.Endpoint {
	e := balance.Endpoint{Addr: dst, Ready: true}
	if q := s.PodByAddr(dst.Addr()); q != nil {
		e.Pod, e.Mesh, e.Account, e.Node = q, q.InMesh, q.Account, q.Node
	}
	return balance.Single(e)
}

// snapshot waits for the first one.
func (b *brain) snapshot(ctx context.Context) (*mesh.Snapshot, error) {
	s, err := b.world.Wait(ctx, func(*mesh.Snapshot) bool { return b.world.Synced() })
	if err != nil {
		return nil, ErrNoTable
	}
	return s, nil
}

// withEndpoints subscribes and waits until a snapshot has the service's endpoints. It subscribes also if they are there:
// they may be there because all are, and go with the others.
func (b *brain) withEndpoints(ctx context.Context, s *mesh.Snapshot, svc mesh.Name) (*mesh.Snapshot, error) {
	b.world.Subscribe(svc)
	if s.Endpoints(svc) != nil {
		return s, nil
	}
	s, err := b.world.Wait(ctx, func(s *mesh.Snapshot) bool { return s.Endpoints(svc) != nil })
	if err != nil {
		return nil, fmt.Errorf("wait for the endpoints of %s: %w", svc, err)
	}
	return s, nil
}

// withBackends subscribes to the backends of rules and waits a while until a snapshot has their endpoints. It returns the latest.
func (b *brain) withBackends(ctx context.Context, s *mesh.Snapshot, row *mesh.PortRoutes) *mesh.Snapshot {
	names := backendsOf(row)
	if len(names) == 0 {
		return s
	}
	b.tables.subscribe(names)
	if known(s, names) {
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, backendsWait)
	defer cancel()
	if s, err := b.world.Wait(ctx, func(s *mesh.Snapshot) bool { return known(s, names) }); err == nil {
		return s
	}
	return b.world.Snapshot()
}

// Moved compares a destination with what its address stands for now. One whose rules are for
// connections by now has moved, too.
func (b *brain) Moved(d *l7.Destination) bool {
	s := b.world.Snapshot()
	svc, _, ok := s.ServiceByAddr(d.Addr)
	if svc == nil && d.Mapped {
		return b.backends.moved(s, d)
	}
	if svc == nil && d.Cluster == nil {
		svc, _, ok = b.backends.behind(s, d.Addr)
	}
	if d.Cluster != nil && ok && opaque(d.Routes.Table()) {
		return true
	}
	if d.Cluster != nil || svc != nil {
		return d.Cluster == nil || !ok || svc.Name != d.Service
	}
	now := mesh.Pod{}
	if q := s.PodByAddr(d.Addr.Addr()); q != nil {
		now = *q
	}
	e := d.Endpoint
	return e.Mesh != now.InMesh || e.Account != now.Account || e.Node != now.Node
}

// Origin tells who a peer address is.
func (b *brain) Origin(_ *l7.Pod, peer netip.AddrPort) l7.Origin {
	q := b.world.Snapshot().PodByAddr(peer.Addr())
	if q == nil {
		return l7.Origin{}
	}
	return l7.Origin{Pod: q, Node: q.Node, Mesh: q.InMesh}
}

// Dial connects from inside the pod, past the redirect.
func (b *brain) Dial(ctx context.Context, p *l7.Pod, dst netip.AddrPort) (*net.TCPConn, error) {
	return b.dialer.Dial(ctx, p.UID, dst)
}

// DialApp connects to the pod's own app, as the client if it can.
func (b *brain) DialApp(ctx context.Context, p *l7.Pod, client netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	return b.dialer.DialApp(ctx, p.UID, client, dst)
}

// ClientTLS expects the account of the endpoint, with a certificate of the endpoint's node: an address that belongs
// to another pod by now is never spoken to.
func (b *brain) ClientTLS(p *l7.Pod, e *balance.Endpoint, alpn string) (*tls.Config, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	src, bundle, err := b.creds.wait(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	id, err := identity.AccountID(bundle.TrustDomain(), e.Account)
	if err != nil {
		return nil, err
	}
	cfg := identity.ClientTLS(src, bundle, identity.OnlyIDOn(id, e.Node))
	if r := src.resume.Load(); r != nil {
		r.Client(cfg, identity.Destination{Addr: e.Addr.Addr(), ID: id, Node: e.Node})
	}
	return tuned(cfg, alpn), nil
}

// ServerTLS shows the pod's own account. A peer whose address is in the table must be who the table says; one whose
// address is not there yet passes provisionally (see Authorize), and always by a full handshake.
func (b *brain) ServerTLS(p *l7.Pod, peer netip.AddrPort) (*tls.Config, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	src, bundle, err := b.creds.wait(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	cfg := identity.ServerTLS(src, bundle, func(q identity.Peer) error { return b.checkPeer(peer.Addr(), q) })
	if r := src.resume.Load(); r != nil && b.world.Snapshot().PodByAddr(peer.Addr()) != nil {
		r.Server(cfg)
	}
	return tuned(cfg, l7.ALPNHTTP, l7.ALPNTCP), nil
}

// tuned makes a configuration the engine's: its protocols, and refusals that it knows for what they are. Records start small
// and grow, as is crypto/tls's default: the first bytes of an answer need not wait for the last of 16 KiB.
func tuned(cfg *tls.Config, alpns ...string) *tls.Config {
	cfg.NextProtos = alpns
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := verify(cs); err != nil {
			return fmt.Errorf("%w: %w", l7.ErrIdentity, err)
		}
		return nil
	}
	return cfg
}

// checkPeer holds a verified certificate against the table: the address must be a pod of that account on that node.
func (b *brain) checkPeer(addr netip.Addr, q identity.Peer) error {
	account, ok := q.ID.Account()
	if !ok {
		return identity.Refuse(q, identity.WrongIdentity, "not the identity of a service account")
	}
	pod := b.world.Snapshot().PodByAddr(addr)
	if pod == nil {
		return nil
	}
	if pod.Account != account {
		return identity.Refuse(q, identity.WrongIdentity, "%v belongs to a pod of %s", addr, pod.Account)
	}
	if pod.Node != q.Node {
		return identity.Refuse(q, identity.WrongNode, "%v belongs to a pod on %q, the certificate is of %q", addr, pod.Node, q.Node)
	}
	return nil
}

// Authorize holds a connection's certificate against the table as it is now: an address that was not in it at the
// handshake may be another's. Then the policies decide.
func (b *brain) Authorize(a *l7.Arrival) error {
	if a.TLS == nil {
		return b.decide(a, nil, a.Count)
	}
	peer, err := identity.PeerOf(*a.TLS)
	if err == nil {
		err = b.checkPeer(a.Peer.Addr(), peer)
	}
	if err != nil {
		return err
	}
	return b.decide(a, nil, a.Count)
}
