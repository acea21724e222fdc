package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"
)

type certificate = tls.Certificate

func TestBothEndsKnowEachOther(t *testing.T) {
	ca, bundle := newCA(t, "td")
	web, db := account(t, "td", "shop", "web"), account(t, "td", "shop", "db")
	client := Static{must[*certificate](t)(ca.Issue(Request{ID: web, Node: "a", TTL: time.Hour}))}
	server := Static{must[*certificate](t)(ca.Issue(Request{ID: db, Node: "b", TTL: time.Hour}))}
	cs, ss, cerr, serr := handshake(t, ClientTLS(client, bundle, OnlyIDOn(db, "b")), ServerTLS(server, bundle, OnlyIDOn(web, "a")))
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if p := must[Peer](t)(PeerOf(cs)); p != (Peer{db, "b"}) {
		t.Errorf("client sees %v", p)
	}
	if p := must[Peer](t)(PeerOf(ss)); p != (Peer{web, "a"}) {
		t.Errorf("server sees %v", p)
	}
	if cs.Version != tls.VersionTLS13 || cs.CurveID != tls.X25519MLKEM768 {
		t.Errorf("version %x, curve %v", cs.Version, cs.CurveID)
	}
}

func TestRefusalsHaveTheirCause(t *testing.T) {
	ca, bundle := newCA(t, "td")
	stranger, _ := newCA(t, "td")
	elsewhere, _ := newCA(t, "elsewhere")
	web, db := account(t, "td", "shop", "web"), account(t, "td", "shop", "db")
	good := must[*certificate](t)(ca.Issue(Request{ID: web, Node: "a", TTL: time.Hour}))
	made := func(edit func(*x509.Certificate)) *certificate { return handmade(t, ca, edit) }
	for _, c := range []struct {
		name string
		cert *certificate
		want Cause
	}{
		{"expired", made(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), Expired},
		{"not yet", made(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), NotYetValid},
		{"stranger", must[*certificate](t)(stranger.Issue(Request{ID: web, TTL: time.Hour})), UnknownAuthority},
		{"elsewhere", must[*certificate](t)(elsewhere.Issue(Request{ID: account(t, "elsewhere", "shop", "web"), TTL: time.Hour})), OtherTrustDomain},
		{"identity", must[*certificate](t)(ca.Issue(Request{ID: db, Node: "a", TTL: time.Hour})), WrongIdentity},
		{"node", must[*certificate](t)(ca.Issue(Request{ID: web, Node: "b", TTL: time.Hour})), WrongNode},
		{"no node", must[*certificate](t)(ca.Issue(Request{ID: web, TTL: time.Hour})), WrongNode},
		{"none", nil, NoCertificate},
		{"no URI", made(func(c *x509.Certificate) { c.URIs = nil }), Malformed},
		{"two URIs", made(func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), Malformed},
		{"DNS name", made(func(c *x509.Certificate) { c.DNSNames = []string{"web"} }), Malformed},
		{"foreign path", made(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "td", Path: "/x"}} }), Malformed},
		{"a CA", made(func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }), Malformed},
		{"server only", made(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), Malformed},
		{"empty node", made(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: nodeOID, Value: []byte{12, 0}}} }), Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := ServerTLS(Static{good}, bundle, OnlyIDOn(web, "a"))
			var src Source
			if c.cert != nil {
				src = Static{c.cert}
			}
			_, _, clientErr, serverErr := handshake(t, ClientTLS(src, bundle, Anyone), server)
			if got, ok := CauseOf(serverErr); !ok || got != c.want {
				t.Errorf("server: %v, want %v", serverErr, c.want)
			}
			if clientErr == nil {
				t.Error("the client was served")
			}
			if c.cert == nil {
				return
			}
			_, _, clientErr, _ = handshake(t, ClientTLS(Static{good}, bundle, OnlyIDOn(web, "a")), ServerTLS(src, bundle, Anyone))
			if got, ok := CauseOf(clientErr); !ok || got != c.want {
				t.Errorf("client: %v, want %v", clientErr, c.want)
			}
		})
	}
}

// handmade is a leaf that the CA would not make.
func handmade(t *testing.T, ca *CA, edit func(*x509.Certificate)) *certificate {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	is := ca.issuer.Load()
	tmpl := must[*x509.Certificate](t)(leafTemplate(Request{ID: account(t, "td", "shop", "web"), Node: "a", TTL: time.Hour}, time.Now(), is.cert))
	tmpl.SerialNumber = big.NewInt(7)
	tmpl.NotBefore = time.Now().Add(-time.Hour)
	edit(tmpl)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, is.cert, key.Public(), is.key))
	return must[*certificate](t)(NewCertificate([][]byte{der}, key))
}

func TestWithoutAnAuthorizerNobodyIsServed(t *testing.T) {
	ca, bundle := newCA(t, "td")
	src := Static{must[*certificate](t)(ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: time.Hour}))}
	if _, _, _, err := handshake(t, ClientTLS(src, bundle, Anyone), ServerTLS(src, bundle, nil)); err == nil {
		t.Error("served")
	}
}

func TestOptionalClientTLSLetsOnlyAbsenceThrough(t *testing.T) {
	ca, bundle := newCA(t, "td")
	stranger, _ := newCA(t, "td")
	id := account(t, "td", "a", "b")
	src := Static{must[*certificate](t)(ca.Issue(Request{ID: id, TTL: time.Hour}))}
	server := OptionalClientTLS(src, bundle, Anyone)
	_, state, cerr, serr := handshake(t, ClientTLS(nil, bundle, Anyone), server)
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if _, err := PeerOf(state); err == nil {
		t.Error("a peer without a certificate is somebody")
	}
	bad := Static{must[*certificate](t)(stranger.Issue(Request{ID: id, TTL: time.Hour}))}
	if _, _, _, err := handshake(t, ClientTLS(bad, bundle, Anyone), server); err == nil {
		t.Error("a bad certificate passed as none")
	}
}

func TestTwoRootsAtOnceAndARotationShowsAtTheNextHandshake(t *testing.T) {
	oldCA, bundle := newCA(t, "td")
	newer, _ := newCA(t, "td")
	id := account(t, "td", "a", "b")
	oldCert := Static{must[*certificate](t)(oldCA.Issue(Request{ID: id, TTL: time.Hour}))}
	newCert := Static{must[*certificate](t)(newer.Issue(Request{ID: id, TTL: time.Hour}))}
	works := func(src Source) bool {
		_, _, cerr, serr := handshake(t, ClientTLS(src, bundle, Anyone), ServerTLS(src, bundle, Anyone))
		return cerr == nil && serr == nil
	}
	if !works(oldCert) || works(newCert) {
		t.Fatal("before the rotation")
	}
	if err := bundle.Replace(append(oldCA.RootPEM(), newer.RootPEM()...)); err != nil {
		t.Fatal(err)
	}
	if !works(oldCert) || !works(newCert) {
		t.Fatal("during the rotation")
	}
	if err := bundle.Replace(newer.RootPEM()); err != nil {
		t.Fatal(err)
	}
	if works(oldCert) || !works(newCert) {
		t.Fatal("after the rotation")
	}
}
