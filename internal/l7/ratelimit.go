package l7

import (
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/l7/limit"
	"fairlead.io/fairlead/internal/mesh"
)

// Rates knows how many requests pods take.
type Rates interface {
	// Rate is what bounds the requests to a pod's own port that were sent to a service's; nil if nothing does. The service is
	// the zero Name if nobody has said which. It never waits. The answer is used for a second.
	Rate(p *Pod, own uint16, service mesh.Name, port uint16) *limit.Limiter
}

// rateLife is how long an answer of Rates is used.
const rateLife = time.Second

// rated is what a connection remembers of Rates.
type rated struct {
	by      *limit.Limiter
	of      string // the service that it was asked for, as the peer names it
	until   time.Time
	client  string // who the peer is, by its certificate; "" is nobody
	clients bool   // client is known
}

// limited refuses a request that is one too many for the pod.
func (s *httpSession) limited(r *request, said string) bool {
	rates, now := s.w.e.cfg.Rates, s.w.l.Now()
	if rates == nil || s.route.in == nil {
		return false
	}
	if s.rate.of != said || !now.Before(s.rate.until) {
		service, port, _ := parseService(said)
		s.rate.by, s.rate.of, s.rate.until = rates.Rate(s.f.spec, s.f.local.Port(), service, port), said, now.Add(rateLife)
	}
	if s.rate.by == nil {
		return false
	}
	wait := s.rate.by.Take(s.client(), now)
	if wait == 0 {
		return false
	}
	r.rec.Limited = true
	r.event(EventLimited)
	if r.rec.GRPC && r.head.Version == exchange.HTTP2 {
		r.fail(CauseRate, 429, grpcExhausted, tooMany)
		return true
	}
	r.rec.Cause = CauseRate
	r.answer(&exchange.Head{Status: 429, Fields: []exchange.Field{{Name: "x-fairlead-error", Value: CauseRate.String()},
		{Name: "content-type", Value: "text/plain; charset=utf-8"}, {Name: "retry-after", Value: limit.RetryAfter(wait)}}}, tooMany+"\n")
	return true
}

const tooMany = "too many requests of late"

// client is who the peer has proved to be: its SPIFFE ID.
func (s *httpSession) client() string {
	if !s.rate.clients {
		s.rate.clients = true
		if s.state != nil && len(s.state.PeerCertificates) > 0 && len(s.state.PeerCertificates[0].URIs) > 0 {
			s.rate.client = s.state.PeerCertificates[0].URIs[0].String()
		}
	}
	return s.rate.client
}
