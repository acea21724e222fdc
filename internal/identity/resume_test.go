package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// party is one end of handshakes, whose signatures are counted.
type party struct {
	id     ID
	node   string
	cert   *certificate
	resume *Resumption
	signed atomic.Int32
	shift  time.Duration // of the clocks that only resumption looks at
}

func newParty(t testing.TB, ca *CA, name, node string, all *Sessions) *party {
	t.Helper()
	p := &party{id: account(t, ca.TrustDomain().Name(), "shop", name), node: node}
	p.renew(t, ca, all)
	return p
}

// renew gives a party another leaf.
func (p *party) renew(t testing.TB, ca *CA, all *Sessions) {
	t.Helper()
	p.cert = must[*certificate](t)(ca.Issue(Request{ID: p.id, Node: p.node, TTL: 4 * time.Hour}))
	key := p.cert.PrivateKey.(*ecdsa.PrivateKey)
	p.cert.PrivateKey = NewSigner(key.Public(), func(content []byte) ([]byte, error) {
		p.signed.Add(1)
		return SignCertificateVerify(key, content)
	})
	p.fresh(all)
}

// fresh is renew without another leaf.
func (p *party) fresh(all *Sessions) {
	p.resume = NewResumption(p.cert.Leaf, all)
	p.resume.now = func() time.Time { return time.Now().Add(p.shift) }
}

// couple is a client and a server that know each other.
type couple struct {
	t              testing.TB
	ca             *CA
	bundle         *Bundle
	all            Sessions
	client, server *party
	to             Destination
	allow          func(Peer) error // of both ends, beside the identity
	tune           func(client, server *tls.Config)
}

func newCouple(t testing.TB) *couple {
	c := &couple{t: t, allow: Anyone, tune: func(*tls.Config, *tls.Config) {}}
	c.ca, c.bundle = newCA(t, "td")
	c.client, c.server = newParty(t, c.ca, "web", "a", &c.all), newParty(t, c.ca, "db", "b", &c.all)
	c.to = Destination{Addr: netip.MustParseAddr("10.0.0.2"), ID: c.server.id, Node: "b"}
	return c
}

func (c *couple) configs() (client, server *tls.Config) {
	both := func(want Authorizer) Authorizer {
		return func(p Peer) error {
			if err := want(p); err != nil {
				return err
			}
			return c.allow(p)
		}
	}
	client = ClientTLS(Static{c.client.cert}, c.bundle, both(OnlyIDOn(c.server.id, "b")))
	server = ServerTLS(Static{c.server.cert}, c.bundle, both(OnlyIDOn(c.client.id, "a")))
	c.client.resume.Client(client, c.to)
	c.server.resume.Server(server)
	c.tune(client, server)
	return client, server
}

// meet shakes hands. Both ends agree whether a session was resumed, and whoever resumes has nothing signed.
func (c *couple) meet() (resumed bool, clientErr, serverErr error) {
	c.t.Helper()
	before := c.client.signed.Load() + c.server.signed.Load()
	client, server := c.configs()
	cs, ss, clientErr, serverErr := handshake(c.t, client, server)
	signed := c.client.signed.Load() + c.server.signed.Load() - before
	if clientErr != nil || serverErr != nil {
		return false, clientErr, serverErr
	}
	if cs.DidResume != ss.DidResume || cs.DidResume != (signed == 0) || !cs.DidResume && signed != 2 {
		c.t.Errorf("client resumed: %v, server: %v, %d signatures", cs.DidResume, ss.DidResume, signed)
	}
	if p, err := PeerOf(cs); err != nil || p != (Peer{c.server.id, "b"}) {
		c.t.Errorf("client sees %v, %v", p, err)
	}
	if p, err := PeerOf(ss); err != nil || p != (Peer{c.client.id, "a"}) {
		c.t.Errorf("server sees %v, %v", p, err)
	}
	if cs.CurveID != tls.X25519MLKEM768 {
		c.t.Errorf("curve %v: a resumed session has its own key exchange", cs.CurveID)
	}
	return cs.DidResume, nil, nil
}

// well is meet where both ends must be content.
func (c *couple) well(what string, want bool) {
	c.t.Helper()
	if resumed, cerr, serr := c.meet(); cerr != nil || serr != nil || resumed != want {
		c.t.Fatalf("%s: resumed: %v, want %v (%v, %v)", what, resumed, want, cerr, serr)
	}
}

func TestASessionIsResumedWithoutASignature(t *testing.T) {
	c := newCouple(t)
	c.well("the first", false)
	for range 3 {
		c.well("the next", true)
	}
	s := c.all.get(c.client.resume, c.to)
	if _, state, err := s.state.ResumptionState(); err != nil || state.EarlyData {
		t.Errorf("early data: %v, %v", state.EarlyData, err)
	}
}

// What has changed since the full handshake is answered by another full one.
func TestAfterAChangeThereIsAFullHandshake(t *testing.T) {
	for name, change := range map[string]func(*couple){
		"the client has other sessions":           func(c *couple) { c.client.resume.Retire() },
		"the server has other keys":               func(c *couple) { c.server.resume.Retire() },
		"the client's certificate was taken away": func(c *couple) { c.client.resume.End() },
		"the server's certificate was taken away": func(c *couple) { c.server.resume.End() },
		"the client has another leaf":             func(c *couple) { c.client.renew(c.t, c.ca, &c.all) },
		"the server has another leaf":             func(c *couple) { c.server.renew(c.t, c.ca, &c.all) },
		"another account asks": func(c *couple) {
			c.client = newParty(c.t, c.ca, "other", "a", &c.all)
		},
		"another address is dialled":       func(c *couple) { c.to.Addr = c.to.Addr.Next() },
		"the client's leaf has ended":      func(c *couple) { c.client.shift = 4 * time.Hour },
		"the server's leaf has ended":      func(c *couple) { c.server.shift = 4 * time.Hour },
		"half an hour has passed (client)": func(c *couple) { c.client.shift = resumeFor },
		"an hour has passed (server)":      func(c *couple) { c.server.shift = 2 * resumeFor },
		"the server's clock is set back":   func(c *couple) { c.server.shift = -2 * time.Minute },
		"the server knows nobody there": func(c *couple) {
			c.tune = func(_, server *tls.Config) { server.SessionTicketsDisabled = true }
		},
		"the peer's leaf in the ticket has ended": func(c *couple) {
			c.tune = func(_, server *tls.Config) { server.Time = func() time.Time { return time.Now().Add(5 * time.Hour) } }
		},
		"the peer's leaf in the session has ended": func(c *couple) {
			c.tune = func(client, _ *tls.Config) { client.Time = func() time.Time { return time.Now().Add(5 * time.Hour) } }
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCouple(t)
			c.well("the first", false)
			c.well("before the change", true)
			change(c)
			c.well("after the change", false)
		})
	}
}

// Resumed over and over, a session is still one of its full handshake: a client offers it for half an hour, and a server takes
// it for an hour from a client that goes on offering it.
func TestAnHourAfterItsFullHandshakeNoSessionIsResumed(t *testing.T) {
	c := newCouple(t)
	c.well("the first", false)
	at := func(minute int) {
		c.client.shift = time.Duration(minute) * time.Minute
		c.server.shift = c.client.shift
	}
	for minute := 10; minute < 30; minute += 10 {
		at(minute)
		c.well("within the half hour", true)
	}
	at(30)
	c.well("after half an hour", false)
	at(59)
	c.well("and then again", true)
	for minute := 60; minute < 90; minute += 10 {
		c.server.shift = time.Duration(minute) * time.Minute // the client's clock stands still
		c.well("within the hour", true)
	}
	c.server.shift = 90 * time.Minute
	c.well("after an hour", false)
}

func TestAResumedPeerIsVerifiedAndAuthorisedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*couple)
		want   Cause
	}{
		"roots": {func(c *couple) {
			other, _ := newCA(c.t, "td")
			if err := c.bundle.Replace(other.RootPEM()); err != nil {
				c.t.Fatal(err)
			}
		}, UnknownAuthority},
		"authorisation": {func(c *couple) {
			c.allow = func(p Peer) error { return Refuse(p, WrongNode, "moved") }
		}, WrongNode},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCouple(t)
			c.well("the first", false)
			test.change(c)
			signed := c.client.signed.Load() + c.server.signed.Load()
			_, cerr, _ := c.meet()
			if got, ok := CauseOf(cerr); !ok || got != test.want {
				t.Errorf("client: %v, want %v", cerr, test.want)
			}
			if c.client.signed.Load()+c.server.signed.Load() != signed {
				t.Error("the session was not offered: nothing is shown")
			}
			if n := c.all.Len(); n != 0 {
				t.Errorf("%d sessions are kept, though the handshake failed", n)
			}
		})
	}
}

// TestTheServerVerifiesAResumedPeer has the client verify nothing, so that the refusal is the server's.
func TestTheServerVerifiesAResumedPeer(t *testing.T) {
	c := newCouple(t)
	c.well("the first", false)
	c.allow = func(p Peer) error { return Refuse(p, WrongIdentity, "another's address") }
	c.tune = func(client, _ *tls.Config) {
		client.VerifyConnection = func(cs tls.ConnectionState) error {
			if !cs.DidResume {
				t.Error("the session was not resumed: nothing is shown")
			}
			return nil
		}
	}
	_, cerr, serr := c.meet()
	if got, ok := CauseOf(serr); !ok || got != WrongIdentity || cerr == nil {
		t.Errorf("server: %v, client: %v", serr, cerr)
	}
}

// A certificate can be taken away, and a peer's can end, while a resumed handshake is under way.
func TestVerificationOfAResumedHandshakeUnderWay(t *testing.T) {
	c := newCouple(t)
	ended := handmade(t, c.ca, func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) })
	client, server := c.configs()
	states := map[*tls.Config]tls.ConnectionState{
		client: {DidResume: true, PeerCertificates: []*x509.Certificate{c.server.cert.Leaf}},
		server: {DidResume: true, PeerCertificates: []*x509.Certificate{c.client.cert.Leaf}},
	}
	for cfg, cs := range states {
		if err := cfg.VerifyConnection(cs); err != nil {
			t.Errorf("a good one: %v", err)
		}
		old := cs
		old.PeerCertificates = []*x509.Certificate{ended.Leaf}
		if got, ok := CauseOf(cfg.VerifyConnection(old)); !ok || got != Expired {
			t.Errorf("a peer whose leaf has ended: %v", cfg.VerifyConnection(old))
		}
	}
	c.client.resume.Retire()
	c.server.resume.Retire()
	for cfg, cs := range states {
		if err := cfg.VerifyConnection(cs); err != nil {
			t.Errorf("at a renewal: %v", err)
		}
	}
	c.client.resume.End()
	c.server.resume.End()
	for cfg, cs := range states {
		if err := cfg.VerifyConnection(cs); !errors.Is(err, ErrEnded) {
			t.Errorf("without an own certificate: %v", err)
		}
		cs.DidResume = false
		if err := cfg.VerifyConnection(cs); err != nil {
			t.Errorf("a full handshake: %v", err) // it has been signed
		}
	}
}
