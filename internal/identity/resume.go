package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"
)

// ErrEnded is returned for a session that was taken up while the certificate that it was made with was taken away.
var ErrEnded = errors.New("session of a certificate that is no more")

// resumeFor is how long after its full handshake a client offers a session, and how long a ticket key seals. A server takes
// no session that is twice as old, nor one that was sealed with a key that is. That bounds what stolen ticket keys and sessions are
// worth: a full handshake needs a signature, which only the holder of the private key can make.
const resumeFor = 30 * time.Minute

// Resumption is what an identity keeps to take up TLS sessions again without a signature: the keys of the tickets that
// it gives out as a server, and the sessions that it may offer as a client. It belongs to one leaf and lies in memory
// alone; with the next leaf, or other roots, there is another. Who takes up a session is verified and authorised as in a full
// handshake.
type Resumption struct {
	until    time.Time // the end of the leaf
	tickets  tickets
	sessions *Sessions
	retired  atomic.Bool // nothing is taken up any more
	ended    atomic.Bool // ... nor goes on
	now      func() time.Time
}

// NewResumption makes the Resumption of a leaf, whose sessions count in the bounds of all.
func NewResumption(leaf *x509.Certificate, all *Sessions) *Resumption {
	return &Resumption{until: leaf.NotAfter, sessions: all, now: time.Now}
}

// Retire forgets keys and sessions, for there is another Resumption in the place of this. Nothing is taken up from then on; a
// handshake under way goes on.
func (r *Resumption) Retire() {
	r.retired.Store(true)
	r.tickets.forget()
	r.sessions.drop(r)
}

// End is Retire where the certificate was taken away: a resumed handshake under way fails, as a full one does that is not signed.
func (r *Resumption) End() {
	r.ended.Store(true)
	r.Retire()
}

// live tells whether sessions may be taken up.
func (r *Resumption) live() bool { return !r.retired.Load() && r.now().Before(r.until) }

// Server has a configuration of ServerTLS give out tickets and take them. It serves one handshake.
func (r *Resumption) Server(cfg *tls.Config) {
	var end time.Time // of the session that is taken up
	cfg.SessionTicketsDisabled = false
	cfg.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		if !r.live() {
			return nil, nil
		}
		var s *tls.SessionState
		s, end = r.tickets.open(ticket, r.now())
		return s, nil
	}
	cfg.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		if !cs.DidResume {
			end = time.Time{}
		}
		return r.tickets.seal(s, end, r.now())
	}
	cfg.VerifyConnection = r.verifier(cfg.VerifyConnection)
}

// Client has a configuration of ClientTLS offer the session that there is with a destination, and keep the next. It
// serves one handshake.
func (r *Resumption) Client(cfg *tls.Config, to Destination) {
	o := &offer{r: r, to: to}
	cfg.SessionTicketsDisabled = false
	cfg.ClientSessionCache = o
	verify := r.verifier(cfg.VerifyConnection)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := verify(cs); err != nil {
			return err
		}
		if !cs.DidResume {
			o.since = r.now()
		}
		o.chain = cs.PeerCertificates
		return nil
	}
}

// verifier looks, behind what is verified in every handshake, whether the own certificate is still there: in a resumed one
// nobody asks for it.
func (r *Resumption) verifier(verify func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		if err := verify(cs); err != nil {
			return err
		}
		if cs.DidResume && (r.ended.Load() || !r.now().Before(r.until)) {
			return ErrEnded
		}
		return nil
	}
}
