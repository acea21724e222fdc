package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/identity"
)

// AuthorityConfig configures an Authority.
type AuthorityConfig struct {
	Source      *Source
	TrustDomain identity.TrustDomain
	// Make has an issuer made where there is no Secret. Without it somebody else is going to.
	Make bool
	// Every is how often issuer and roots are looked at without being told; 10 s.
	Every time.Duration
	Log   *slog.Logger
}

// Authority is the issuer and the roots, in a Secret and a ConfigMap of our namespace. Both are the user's, or
// somebody's who makes certificates for a living, or made here.
type Authority struct {
	cfg    AuthorityConfig
	source *Source
}

// NewAuthority makes an Authority.
func NewAuthority(cfg AuthorityConfig) *Authority {
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Authority{cfg: cfg, source: cfg.Source}
}

// Issuer is the issuer's certificate, with its own issuers behind it, and its key.
func (a *Authority) Issuer() (cert, key []byte, err error) {
	s := a.source.issuer()
	if s == nil {
		return nil, nil, fmt.Errorf("there is no Secret %s", a.source.cfg.IssuerSecret)
	}
	cert, key = s.Data[certKey], s.Data[keyKey]
	if len(cert) == 0 || len(key) == 0 {
		return nil, nil, fmt.Errorf("the Secret %s lacks %s or %s", s.Name, certKey, keyKey)
	}
	return cert, key, nil
}

// Roots are one or more.
func (a *Authority) Roots() ([]byte, error) {
	c := a.source.roots()
	if c == nil {
		return nil, fmt.Errorf("there is no ConfigMap %s", a.source.cfg.RootsConfigMap)
	}
	text := c.Data[rootsKey]
	if text == "" {
		return nil, fmt.Errorf("the ConfigMap %s lacks %s", c.Name, rootsKey)
	}
	return []byte(text), nil
}

// Next waits until issuer or roots may have changed; false when the context has ended.
func (a *Authority) Next(ctx context.Context) bool {
	t := time.NewTimer(a.cfg.Every)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-a.source.trust:
	}
	return true
}

// Prepare makes what is not there, if it is ours to make: an issuer where there is none, and the roots of an issuer
// that nobody has said the roots of. Only the leader calls it; should two do so all the same, the API server has one
// of them find what the other has made.
func (a *Authority) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	issuer, roots := a.source.issuer(), a.source.roots()
	if roots != nil && roots.Labels[generatedLabel] != "true" { // somebody else's
		if issuer == nil && a.cfg.Make {
			return fmt.Errorf("there is a ConfigMap %s, and no Secret %s that it vouches for: bring both, or neither",
				roots.Name, a.source.cfg.IssuerSecret)
		}
		return nil
	}
	if issuer == nil {
		if !a.cfg.Make {
			return nil // Issuer says what is missing
		}
		made, err := a.makeIssuer(ctx)
		if err != nil {
			return err
		}
		issuer = made
	}
	return a.publishRoots(ctx, issuer, roots)
}

func (a *Authority) makeIssuer(ctx context.Context) (*corev1.Secret, error) {
	ca, err := identity.NewCA(a.cfg.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("make an issuer: %w", err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, fmt.Errorf("make an issuer: %w", err)
	}
	made := &corev1.Secret{
		ObjectMeta: a.generated(a.source.cfg.IssuerSecret), Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{certKey: ca.CertPEM(), keyKey: key, rootsKey: ca.RootPEM()},
	}
	made, err = a.source.client.CoreV1().Secrets(a.source.cfg.Namespace).Create(ctx, made, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("make Secret %s: %w", a.source.cfg.IssuerSecret, waitFor(err))
	}
	a.cfg.Log.Info("issuer made", "secret", made.Name)
	return made, a.seen(ctx, func() bool { return a.source.issuer() != nil })
}

// publishRoots has the ConfigMap name what vouches for the issuer. Roots that it names already stay in it as long as
// they are valid: certificates under them are in use.
func (a *Authority) publishRoots(ctx context.Context, issuer *corev1.Secret, roots *corev1.ConfigMap) error {
	var old []byte
	if roots != nil {
		old = []byte(roots.Data[rootsKey])
		if a.vouches(old, issuer) == nil {
			return nil
		}
	}
	root, err := a.rootOf(issuer)
	if err != nil {
		return err
	}
	text, err := identity.JoinRoots(old, root)
	if err != nil {
		return fmt.Errorf("publish roots: %w", err)
	}
	maps := a.source.client.CoreV1().ConfigMaps(a.source.cfg.Namespace)
	wanted := &corev1.ConfigMap{ObjectMeta: a.generated(a.source.cfg.RootsConfigMap), Data: map[string]string{rootsKey: string(text)}}
	if roots == nil {
		_, err = maps.Create(ctx, wanted, metav1.CreateOptions{})
	} else {
		wanted.ResourceVersion = roots.ResourceVersion
		_, err = maps.Update(ctx, wanted, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish roots in ConfigMap %s: %w", wanted.Name, waitFor(err))
	}
	a.cfg.Log.Info("roots published", "configmap", wanted.Name)
	return a.seen(ctx, func() bool { c := a.source.roots(); return c != nil && c.Data[rootsKey] == string(text) })
}

// seen waits until the watch tells what was written: what is believed is what the cluster says.
func (a *Authority) seen(ctx context.Context, told func() bool) error {
	for !told() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait to be told what was written: %w", ctx.Err())
		case <-a.source.trust:
		}
	}
	return nil
}

// rootOf is the root of an issuer: what its Secret says, or the top of its chain.
func (a *Authority) rootOf(issuer *corev1.Secret) ([]byte, error) {
	said := issuer.Data[rootsKey]
	if len(said) > 0 && a.vouches(said, issuer) == nil {
		return said, nil
	}
	ca, err := identity.ParseCA(a.cfg.TrustDomain, issuer.Data[certKey], issuer.Data[keyKey])
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", issuer.Name, err)
	}
	top := ca.RootPEM()
	if !ca.Rooted() || a.vouches(top, issuer) != nil {
		return nil, fmt.Errorf("neither %s of Secret %s nor the top of its chain is its root: ConfigMap %s is needed",
			rootsKey, issuer.Name, a.source.cfg.RootsConfigMap)
	}
	return top, nil
}

func (a *Authority) vouches(roots []byte, issuer *corev1.Secret) error {
	b, err := identity.ParseBundle(a.cfg.TrustDomain, roots)
	if err != nil {
		return err
	}
	return b.Vouches(issuer.Data[certKey], issuer.Data[keyKey])
}

func (a *Authority) generated(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: a.source.cfg.Namespace, Labels: map[string]string{
		"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "controller", generatedLabel: "true",
	}}
}

// waitFor explains that somebody else was faster, and that the watch is going to tell what they did.
func waitFor(err error) error {
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
		return errors.Join(errors.New("somebody else has just done so; looking again"), err)
	}
	return err
}
