package check

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/kube/remote"
)

// trustNames are the names of what holds issuer and roots, and the trust domain.
type trustNames struct{ issuer, roots, trustDomain string }

// trustNames come from the controller's own flags, for users may have their own Secret.
func (s *State) trustNames(ctx context.Context) trustNames {
	n := trustNames{fleet.IssuerName, fleet.RootsName, "cluster.local"}
	args := s.controllerFlags(ctx)
	for flag, to := range map[string]*string{"issuer-secret": &n.issuer, "roots-configmap": &n.roots, "trust-domain": &n.trustDomain} {
		if v := args[flag]; v != "" {
			*to = v
		}
	}
	return n
}

// controllerFlags are the flags that the Deployment gives to the controller; none without a Deployment.
func (s *State) controllerFlags(ctx context.Context) map[string]string {
	flags := map[string]string{}
	d, err := s.getDeployment(ctx)
	if err != nil {
		return flags
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, arg := range c.Args {
			if name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "="); ok {
				flags[name] = value
			}
		}
	}
	return flags
}

// trust is what the cluster has of issuer and roots.
type trust struct {
	names  trustNames
	issuer []*x509.Certificate // the issuer, then its own issuers
	crt    []byte
	key    []byte
	roots  []*x509.Certificate
	// issuerErr and rootsErr say why one of them is not there.
	issuerErr, rootsErr error
}

func (s *State) getTrust(ctx context.Context) *trust {
	t, _ := s.trusted.get(func() (*trust, error) {
		t := &trust{names: s.trustNames(ctx)}
		secret, err := remote.Get[corev1.Secret](ctx, s.Client, s.Home, t.names.issuer)
		if t.issuerErr = err; err == nil {
			t.crt, t.key = secret.Data["tls.crt"], secret.Data["tls.key"]
			t.issuer, t.issuerErr = parsePEM(t.crt)
		}
		config, err := remote.Get[corev1.ConfigMap](ctx, s.Client, s.Home, t.names.roots)
		if t.rootsErr = err; err == nil {
			t.roots, t.rootsErr = parsePEM([]byte(config.Data["ca.crt"]))
		}
		return t, nil
	})
	return t
}

func parsePEM(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return all, nil
}

func trustGroup() Group {
	return Group{"certificates", []Check{
		{ID: "issuer", About: "there is an issuer, with its key", Run: checkIssuer},
		{ID: "roots", About: "there are roots", Run: checkRoots},
		{ID: "issuer-chain", About: "the roots vouch for the issuer", Run: checkIssuerChain},
		{ID: "certificates-valid", About: "issuer and roots are valid now", Run: checkValidity},
		{ID: "certificates-60-days", About: "issuer and roots are valid for 60 more days", Run: check60Days},
		{ID: "certificates-algorithms", About: "keys and signatures of issuer and roots are strong", Run: checkAlgorithms},
		{ID: "issuer-in-use", About: "the controller signs with this issuer", Run: checkIssuerInUse},
		{ID: "leaves", About: "every node's certificates are valid, and lead to the roots", Run: checkLeaves},
	}}
}

const (
	newIssuerHint = "put a valid issuer into the Secret, with the roots that it leads to in the ConfigMap (docs/CHECKS.md#issuer); if Fairlead has made it, delete both and restart the controller: a new one is made"
)

func checkIssuer(ctx context.Context, s *State) ([]Finding, error) {
	t := s.getTrust(ctx)
	hint := fmt.Sprintf("the controller makes one if it may; or create the Secret %s of type kubernetes.io/tls, and the ConfigMap %s with its roots", t.names.issuer, t.names.roots)
	switch {
	case remote.IsNotFound(t.issuerErr):
		return []Finding{failed(hint, "there is no Secret %s", t.names.issuer)}, nil
	case remote.IsForbidden(t.issuerErr):
		return nil, t.issuerErr
	case t.issuerErr != nil:
		return []Finding{failed(newIssuerHint, "the Secret %s cannot be used: %v", t.names.issuer, t.issuerErr)}, nil
	}
	td, err := identity.ParseTrustDomain(t.names.trustDomain)
	if err != nil {
		return nil, err
	}
	if _, err := identity.ParseCA(td, t.crt, t.key); err != nil {
		return []Finding{failed(newIssuerHint, "the Secret %s cannot be used: %v", t.names.issuer, err)}, nil
	}
	return nil, nil
}

func checkRoots(ctx context.Context, s *State) ([]Finding, error) {
	t := s.getTrust(ctx)
	hint := fmt.Sprintf("put the certificates of the roots, in PEM, under the key ca.crt of the ConfigMap %s", t.names.roots)
	switch {
	case remote.IsNotFound(t.rootsErr):
		return []Finding{failed(hint, "there is no ConfigMap %s", t.names.roots)}, nil
	case remote.IsForbidden(t.rootsErr):
		return nil, t.rootsErr
	case t.rootsErr != nil:
		return []Finding{failed(hint, "the ConfigMap %s cannot be used: %v", t.names.roots, t.rootsErr)}, nil
	}
	var found []Finding
	for _, r := range t.roots {
		if !r.IsCA {
			found = append(found, failed(hint, "%s among the roots may not sign certificates", subject(r)))
		}
	}
	return found, nil
}

// both gives issuer and roots, or says that another check has said why not.
func (s *State) both(ctx context.Context) (*trust, error) {
	t := s.getTrust(ctx)
	if t.issuerErr != nil || t.rootsErr != nil {
		return nil, skip("issuer or roots cannot be read")
	}
	return t, nil
}
