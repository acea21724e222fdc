package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

// MapBackends says when the address of a Service's endpoint is taken for the Service. The zero value is MapAuto.
type MapBackends uint8

// The modes.
const (
	MapAuto MapBackends = iota // while a program of others sees every connect(), and so may have put it there
	MapOn
	MapOff
)

var mapBackends = [...]string{"auto", "on", "off"}

// MarshalText gives what UnmarshalText reads.
func (m MapBackends) MarshalText() ([]byte, error) {
	if int(m) < len(mapBackends) {
		return []byte(mapBackends[m]), nil
	}
	return nil, fmt.Errorf("no mode %d", m)
}

// UnmarshalText reads a mode.
func (m *MapBackends) UnmarshalText(text []byte) error {
	for i, name := range mapBackends {
		if string(text) == name {
			*m = MapBackends(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of auto, on and off", text)
}

// backends leads the addresses of endpoints back to their Services, where another program at connect() puts them in the
// Services' place. It needs to know the endpoints of all services: an address may be behind several. nil does nothing.
type backends struct {
	mode   MapBackends
	log    *slog.Logger
	others atomic.Bool   // there is such a program
	news   chan struct{} // holds one: others has changed
}

func newBackends(mode MapBackends, reg prometheus.Registerer, log *slog.Logger) *backends {
	b := &backends{mode: mode, log: log, news: make(chan struct{}, 1)}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fairlead_backends_mapped",
		Help: "1 while the address of a Service's endpoint is taken for the Service."}, func() float64 {
		if b.on() {
			return 1
		}
		return 0
	}))
	return b
}

// on tells whether addresses of endpoints are taken for Services.
func (b *backends) on() bool {
	return b != nil && (b.mode == MapOn || b.mode == MapAuto && b.others.Load())
}

// told takes the keeper's word for which programs of others there are.
func (b *backends) told(programs []string) {
	if b == nil || b.others.Swap(len(programs) > 0) == (len(programs) > 0) {
		return
	}
	b.log.Info("programs of others that see every connect", "programs", programs, "mapped", b.on())
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// Others is the keeper's word.
func (p *pods) Others(programs []string) { p.backends.told(programs) }

// follow subscribes to all services while they are needed, and has live connections looked at when that changes.
func (b *backends) follow(ctx context.Context, world interface{ SubscribeAll(bool) }, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.news:
			world.SubscribeAll(b.on())
			changed()
		}
	}
}

// behind tells which Service an address that is no Service's stands for.
func (b *backends) behind(s *mesh.Snapshot, a netip.AddrPort) (*mesh.Service, mesh.Port, bool) {
	if !b.on() || !s.AllEndpoints() {
		return nil, mesh.Port{}, false
	}
	return s.ServiceByBackend(a)
}

// moved tells whether a destination whose address was taken for its Service stands for something else by now. That the
// address is no endpoint any more is no reason: the Service was dialled, and has others.
func (b *backends) moved(s *mesh.Snapshot, d *l7.Destination) bool {
	if svc, port, ok := b.behind(s, d.Addr); ok {
		return svc.Name != d.Service || port.Number != d.Port.Number
	}
	svc := s.Service(d.Service)
	if svc == nil || !b.on() {
		return true
	}
	_, ok := svc.Port(d.Port.Number)
	return !ok
}
