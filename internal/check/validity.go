package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// checkIssuerChain asks whether the roots vouch for the issuer, whenever that was: validity is another check.
func checkIssuerChain(ctx context.Context, s *State) ([]Finding, error) {
	t, err := s.both(ctx)
	if err != nil {
		return nil, err
	}
	if err := vouches(t.roots, t.issuer, t.issuer[0].NotBefore.Add(time.Second)); err != nil {
		return []Finding{failed(fmt.Sprintf("add the issuer's root to the ConfigMap %s (several may stand there), or put the issuer that belongs to the roots into the Secret %s", t.names.roots, t.names.issuer),
			"no root in the ConfigMap %s vouches for the issuer %s: the controller does not take it", t.names.roots, subject(t.issuer[0]))}, nil
	}
	return nil, nil
}

// vouches tells whether a chain leads to one of the roots.
func vouches(roots, chain []*x509.Certificate, at time.Time) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, r := range roots {
		o.Roots.AddCert(r)
		if at.Before(r.NotBefore) {
			o.CurrentTime = r.NotBefore.Add(time.Second)
		}
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}

func subject(c *x509.Certificate) string {
	if c.Subject.String() == "" {
		return "with serial " + c.SerialNumber.Text(16)
	}
	return fmt.Sprintf("%q", c.Subject.String())
}

// certificates are issuer and roots, each with what it is.
func (t *trust) each(look func(c *x509.Certificate, what, hint string) []Finding) []Finding {
	rootHint := fmt.Sprintf("add a new root to the ConfigMap %s, then replace the issuer by one below it, then take the old root out: nothing needs a restart", t.names.roots)
	found := look(t.issuer[0], "the issuer "+subject(t.issuer[0]), newIssuerHint)
	for _, r := range t.roots {
		if !r.Equal(t.issuer[0]) {
			found = append(found, look(r, "the root "+subject(r), rootHint)...)
		}
	}
	return found
}

func checkValidity(ctx context.Context, s *State) ([]Finding, error) {
	t, err := s.both(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.serverTime(ctx)
	if err != nil {
		return nil, err
	}
	return t.each(func(c *x509.Certificate, what, hint string) []Finding {
		switch {
		case now.After(c.NotAfter):
			return []Finding{failed(hint, "%s has expired at %s", what, date(c.NotAfter))}
		case now.Before(c.NotBefore):
			return []Finding{failed("wait until then, or have it made anew by a machine whose clock is right",
				"%s begins in the future, at %s: is the clock right that it was made by?", what, date(c.NotBefore))}
		}
		return nil
	}), nil
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// serverTime is the time by the API server's clock.
func (s *State) serverTime(ctx context.Context) (time.Time, error) {
	f, err := s.serverFacts(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return s.Clock.Time().Add(f.ahead), nil
}

func check60Days(ctx context.Context, s *State) ([]Finding, error) {
	t, err := s.both(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.serverTime(ctx)
	if err != nil {
		return nil, err
	}
	return t.each(func(c *x509.Certificate, what, hint string) []Finding {
		if rest := c.NotAfter.Sub(now); rest > 0 && rest < 60*24*time.Hour {
			return []Finding{warned(hint, "%s expires in %d days, at %s", what, int(rest.Hours()/24), date(c.NotAfter))}
		}
		return nil
	}), nil
}

func checkAlgorithms(ctx context.Context, s *State) ([]Finding, error) {
	t, err := s.both(ctx)
	if err != nil {
		return nil, err
	}
	return t.each(func(c *x509.Certificate, what, hint string) []Finding {
		if why := weakness(c); why != "" {
			return []Finding{failed(hint, "%s has %s", what, why)}
		}
		return nil
	}), nil
}

// weakness is what is not to be trusted of a certificate.
func weakness(c *x509.Certificate) string {
	switch c.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD2WithRSA, x509.DSAWithSHA256, x509.UnknownSignatureAlgorithm:
		return "a signature by " + c.SignatureAlgorithm.String()
	}
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if bits := key.Params().BitSize; bits < 256 {
			return fmt.Sprintf("an ECDSA key of %d bits", bits)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
		}
	case ed25519.PublicKey:
	default:
		return "a key of an unknown kind"
	}
	return ""
}

// checkIssuerInUse compares what the controller says of its issuer with the Secret.
func checkIssuerInUse(ctx context.Context, s *State) ([]Finding, error) {
	t, err := s.both(ctx)
	if err != nil {
		return nil, err
	}
	m, err := s.leading(ctx)
	if err != nil {
		return nil, err
	}
	until, ok := m.What.Value("fairlead_controller_issuer_expiry_timestamp_seconds")
	if !ok {
		return nil, skip("the controller does not say which issuer it has")
	}
	if int64(until) != t.issuer[0].NotAfter.Unix() {
		return []Finding{failed(fmt.Sprintf("it is taken about a minute after a root in the ConfigMap vouches for it; else mend what the other checks of certificates say: `kubectl -n %s logs %s` says why it was not taken", s.Home, m.Pod.Name),
			"the controller signs with an issuer that ends at %s, the one in the Secret %s ends at %s",
			date(time.Unix(int64(until), 0)), t.names.issuer, date(t.issuer[0].NotAfter))}, nil
	}
	return nil, nil
}
