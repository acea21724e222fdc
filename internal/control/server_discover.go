package control

import (
	"crypto/tls"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/mesh"
)

// discover is one proxy's stream. All but acked belongs to the handler's goroutine.
type discover struct {
	server *Server
	stream controlpb.Controller_DiscoverServer
	node   string
	acked  atomic.Uint64

	cursor    uint64 // version up to which the receiver has, or was spared, every change
	sent      uint64 // version of the last delta sent
	subs      map[mesh.Name]bool
	all       bool               // subscribed to all services, beside subs
	fresh     map[mesh.Name]bool // subscriptions changed since the last delta
	wantState bool
	stateAt   time.Time
}

// Discover serves one proxy.
func (s *Server) Discover(stream controlpb.Controller_DiscoverServer) error {
	node, err := component(stream.Context(), identity.ID.Proxy)
	if err != nil {
		s.metrics.denied.WithLabelValues("discover").Inc()
		return err
	}
	d := &discover{server: s, stream: stream, node: node, subs: map[mesh.Name]bool{}, fresh: map[mesh.Name]bool{}}
	s.join(d)
	defer s.leave(d)
	s.cfg.Log.Info("proxy connected", "node", node)
	defer s.cfg.Log.Info("proxy disconnected", "node", node)

	up := receive(stream.Context(), stream.Recv)
	first, err := up.first()
	if err != nil {
		return err
	}
	if err := d.take(first); err != nil {
		return err
	}
	warm := s.warm
	for {
		changed := s.cfg.World.Changed()
		later, err := d.send(warm == nil)
		if err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-warm:
			warm = nil
		case <-changed:
		case <-later:
		case m := <-up.messages:
			if err := d.take(m); err != nil {
				return err
			}
		case err := <-up.failed:
			return err
		}
	}
}

func (s *Server) join(d *discover) {
	s.metrics.streams.WithLabelValues("discover").Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discovers[d] = struct{}{}
}

func (s *Server) leave(d *discover) {
	s.metrics.streams.WithLabelValues("discover").Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.discovers, d)
	poke(s.acked)
}

// take takes what the proxy says.
func (d *discover) take(m *controlpb.DiscoverUp) error {
	if m.GetNode() != "" && m.GetNode() != d.node {
		return status.Errorf(codes.PermissionDenied, "the certificate is of node %q", d.node)
	}
	for _, n := range m.GetUnsubscribe() {
		if name := decodeName(n); d.subs[name] {
			delete(d.subs, name)
			d.fresh[name] = true
		}
	}
	for _, n := range m.GetSubscribe() {
		name := decodeName(n)
		if len(name.Namespace) > maxName || len(name.Name) > maxName || len(d.subs) >= maxSubscriptions {
			return status.Errorf(codes.ResourceExhausted, "more than %d subscriptions, or a name too long", maxSubscriptions)
		}
		if !d.subs[name] {
			d.subs[name] = true
			d.fresh[name] = true
		}
	}
	if m.SubscribeAll != nil && m.GetSubscribeAll() != d.all {
		d.all, d.cursor = m.GetSubscribeAll(), 0 // the answer is the whole
	}
	if v := m.GetAcked(); v > d.sent {
		return invalid("acknowledged version %d, sent was %d", v, d.sent)
	} else if v != 0 {
		d.acked.Store(v)
		poke(d.server.acked)
	}
	d.wantState = d.wantState || m.GetWantState()
	return nil
}

// send brings the receiver up to date, if the world may be told. It returns a channel that fires when a signed
// state may be sent that was asked for too early.
func (d *discover) send(warm bool) (later <-chan time.Time, err error) {
	if !warm {
		return nil, nil
	}
	m := &controlpb.DiscoverDown{}
	if delta := d.delta(); delta != nil {
		m.Delta = encodeDelta(*delta)
	}
	if d.wantState {
		if wait := time.Until(d.stateAt.Add(d.server.cfg.StateEvery)); wait > 0 {
			later = time.After(wait)
		} else if m.State, err = d.state(); err != nil {
			return nil, err
		}
	}
	if m.Delta == nil && m.State == nil {
		return later, nil
	}
	if err := d.stream.Send(m); err != nil {
		return nil, err
	}
	d.server.metrics.messages.WithLabelValues("discover").Inc()
	return later, nil
}

// delta is what the receiver lacks; nil if nothing.
func (d *discover) delta() *mesh.Delta {
	delta := d.server.cfg.World.Delta(d.cursor, func(n mesh.Name) bool { return d.wants(n) && !d.fresh[n] })
	delta.AllEndpoints = d.all && delta.Reset
	d.freshEndpoints(&delta)
	d.cursor = delta.Version
	if !delta.Reset && empty(delta) {
		return nil
	}
	d.sent = delta.Version
	return &delta
}

// wants tells whether the receiver is told a service's endpoints.
func (d *discover) wants(n mesh.Name) bool { return d.all || d.subs[n] }

// freshEndpoints adds the endpoints of new subscriptions, none as an empty object: so the receiver sees that it
// has been answered. What was unsubscribed is taken away.
func (d *discover) freshEndpoints(delta *mesh.Delta) {
	for name := range d.fresh {
		d.freshRoutes(delta, name)
		switch e := d.server.cfg.World.Endpoints(name); {
		case !d.subs[name] && (!d.all || e == nil):
			delta.GoneEndpoints = append(delta.GoneEndpoints, name)
		case e == nil:
			delta.Endpoints = append(delta.Endpoints, &mesh.Endpoints{Service: name})
		default:
			delta.Endpoints = append(delta.Endpoints, e)
		}
	}
	clear(d.fresh)
}

// freshRoutes adds the rules for a service's traffic to its endpoints, or takes them away with them.
func (d *discover) freshRoutes(delta *mesh.Delta, name mesh.Name) {
	switch r := d.server.cfg.World.Routes(name); {
	case r != nil && d.wants(name):
		delta.Routes = append(delta.Routes, r)
	default:
		delta.GoneRoutes = append(delta.GoneRoutes, name)
	}
}

func empty(d mesh.Delta) bool {
	return len(d.Pods)+len(d.GonePods)+len(d.Nodes)+len(d.GoneNodes)+len(d.Services)+len(d.GoneServices)+
		len(d.Endpoints)+len(d.GoneEndpoints)+len(d.Routes)+len(d.GoneRoutes)+len(d.Authorizations)+len(d.GoneAuthorizations) == 0
}

// state is the whole state of the node, signed.
func (d *discover) state() (*controlpb.SignedState, error) {
	cert, err := d.certificate()
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	whole := d.server.cfg.World.Delta(0, d.wants)
	whole.AllEndpoints = d.all
	signed, err := signState(cert, d.node, whole, time.Now())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	d.wantState, d.stateAt = false, time.Now()
	return signed, nil
}

func (d *discover) certificate() (*tls.Certificate, error) { return d.server.cfg.Source.Certificate() }
