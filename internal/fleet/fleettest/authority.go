package fleettest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/node/debug"
)

// Kind of a certificate. The zero value is a good one.
type Kind string

// The kinds.
const (
	Expired Kind = "expired"
	Future  Kind = "future"  // it is not valid yet
	Soon    Kind = "soon"    // it expires in 20 days
	Late    Kind = "late"    // it should have been renewed
	Foreign Kind = "foreign" // not below the roots
	Mixed   Kind = "mixed"   // its key is another's
)

// Authority makes the cluster's certificates.
type Authority struct {
	IssuerKind, RootKind, LeafKind Kind

	Issuer, Root *x509.Certificate
	key          *ecdsa.PrivateKey
}

const year = 365 * 24 * time.Hour

func validity(kind Kind, length time.Duration) (from, to time.Time) {
	switch kind {
	case Expired:
		return Noon.Add(-length), Noon.Add(-time.Hour)
	case Future:
		return Noon.Add(2 * time.Hour), Noon.Add(2*time.Hour + length)
	case Soon:
		return Noon.Add(-length), Noon.Add(20 * 24 * time.Hour)
	case Late:
		return Noon.Add(-length * 9 / 10), Noon.Add(length / 10)
	}
	return Noon.Add(-length / 10), Noon.Add(length)
}

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// make signs a certificate, by itself without a parent.
func (a *Authority) make(subject string, kind Kind, length time.Duration, parent *pair, ids ...*url.URL) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	from, to := validity(kind, length)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x2a), Subject: pkix.Name{CommonName: subject}, NotBefore: from, NotAfter: to, IsCA: len(ids) == 0,
		BasicConstraintsValid: true, URIs: ids, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if template.IsCA {
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign, nil
	}
	above := pair{template, key}
	if parent != nil {
		above = *parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above.cert, key.Public(), above.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &pair{cert, key}, err
}

// objects are the Secret with the issuer and the ConfigMap with the roots.
func (a *Authority) objects() ([]byte, error) {
	root, err := a.make("Test root", a.RootKind, 10*year, nil)
	if err != nil {
		return nil, err
	}
	above := root
	if a.IssuerKind == Foreign {
		if above, err = a.make("Another root", "", 10*year, nil); err != nil {
			return nil, err
		}
	}
	issuer, err := a.make("Test issuer", a.IssuerKind, year, above)
	if err != nil {
		return nil, err
	}
	a.Root, a.Issuer, a.key = root.cert, issuer.cert, issuer.key
	key := issuer.key
	if a.IssuerKind == Mixed {
		key = root.key
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	in64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Secret
metadata: {namespace: fairlead-system, name: fairlead-issuer}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: fairlead-system, name: fairlead-roots}
data:
  ca.crt: |
    %s
`, in64([]byte(pemOf(a.Issuer))), in64(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		strings.ReplaceAll(pemOf(a.Root), "\n", "\n    ")), nil
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// identities are what a node's proxy has.
func (a *Authority) identities(node string) (string, error) {
	all := debug.Identities{TrustDomain: "cluster.local", Roots: pemOf(a.Root)}
	for _, account := range map[string][]string{"n1": {"", "bot", "catalog", "front"}, "n2": {"", "ballot", "catalog"}}[node] {
		namespace, id := "vote", &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/vote/sa/" + account}
		if account == "" {
			namespace, id.Path = "", "/fairlead/proxy/"+node
		}
		kind, issuer := a.LeafKind, &pair{a.Issuer, a.key}
		var err error
		if kind == Foreign {
			if issuer, err = a.make("Another issuer", "", year, nil); err != nil {
				return "", err
			}
		}
		leaf, err := a.make("", kind, 4*time.Hour, issuer, id)
		if err != nil {
			return "", err
		}
		all.Identities = append(all.Identities, debug.Identity{Namespace: namespace, Account: account, Chain: pemOf(leaf.cert) + pemOf(issuer.cert)})
	}
	text, err := json.Marshal(all)
	return string(text), err
}
