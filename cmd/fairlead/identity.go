package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) identityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "identity POD | KIND/NAME | sa/ACCOUNT",
		GroupID: "see",
		Short:   "the certificate that a pod or service account uses",
		Long: `Shows the certificates that the nodes have of a service account: whose it is, who signed it, how long it is valid, and
whether it leads to one of the roots that the node trusts. Private keys do not leave a node's keeper.

For a pod it is the certificate on the pod's node; for an account those on every node with a pod of it.`,
		Example: `  fairlead identity -n shop web-0
  fairlead identity -n shop deploy/web
  fairlead identity -n shop sa/web -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: t.completeNames(aPod),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.identity(cmd.Context(), args[0]) },
	}
	t.formats(cmd, "table", "wide", "json")
	return cmd
}

// identityJSON is one certificate.
type identityJSON struct {
	Node      string     `json:"node"`
	Pod       string     `json:"pod,omitempty"`
	ID        string     `json:"id"`
	Issuer    string     `json:"issuer"`
	Serial    string     `json:"serial"`
	NotBefore time.Time  `json:"notBefore"`
	NotAfter  time.Time  `json:"notAfter"`
	Algorithm string     `json:"algorithm"`
	SHA256    string     `json:"sha256"`
	Roots     []rootJSON `json:"roots"`
	Problem   string     `json:"problem,omitempty"` // why peers refuse it
}

type rootJSON struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"notAfter"`
	SHA256   string    `json:"sha256"`
}

func (t *tool) identity(ctx context.Context, arg string) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return err
	}
	account, isAccount := strings.CutPrefix(arg, "sa/")
	pod := ""
	if !isAccount {
		p, err := t.findPod(ctx, c, arg)
		if err != nil {
			return err
		}
		account, pod = p.Spec.ServiceAccountName, p.Name
		if account == "" {
			account = "default"
		}
		if nodes = proxiesOf(nodes, p.Spec.NodeName); len(nodes) == 0 {
			return fmt.Errorf("node %s of pod %s has no pod of Fairlead", p.Spec.NodeName, p.Name)
		}
	}
	told := fleet.Proxies[debug.Identities](ctx, f, nodes, debug.IdentitiesPath, nil)
	if err := nobody(told); err != nil {
		return err
	}
	for _, m := range missed(told) {
		fmt.Fprintln(t.err, "not asked:", m)
	}
	found := t.certificates(told, c, account, pod)
	if len(found) == 0 {
		return fmt.Errorf("no node has a certificate of account %s/%s: is a pod of it in the mesh? `fairlead check --proxy -n %s` says more", c.Namespace(), account, c.Namespace())
	}
	if t.format == "json" {
		return printJSON(t.out, found)
	}
	for i, id := range found {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		id.print(t)
	}
	return nil
}

func (t *tool) certificates(told []fleet.Told[debug.Identities], c *remote.Client, account, pod string) []identityJSON {
	var found []identityJSON
	for _, from := range told {
		for _, id := range from.What.Identities {
			if id.Namespace != c.Namespace() || id.Account != account {
				continue
			}
			j, err := describeChain(id.Chain, from.What.Roots, t.clock.Time())
			if err != nil {
				j.Problem = err.Error()
			}
			j.Node, j.Pod = from.Node(), pod
			found = append(found, j)
		}
	}
	return found
}

// describeChain reads a chain, and holds it against the roots; the error says why a peer would refuse it.
func describeChain(chain, roots string, now time.Time) (identityJSON, error) {
	var j identityJSON
	certs, err := certificatesOf(chain)
	if err != nil {
		return j, err
	}
	leaf := certs[0]
	if len(leaf.URIs) > 0 {
		j.ID = leaf.URIs[0].String()
	}
	j.Issuer, j.Serial, j.NotBefore, j.NotAfter = leaf.Issuer.String(), hex.EncodeToString(leaf.SerialNumber.Bytes()), leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	j.Algorithm, j.SHA256 = algorithm(leaf), fingerprint(leaf)
	trusted, err := certificatesOf(roots)
	if err != nil {
		return j, err
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, r := range trusted {
		o.Roots.AddCert(r)
		j.Roots = append(j.Roots, rootJSON{r.Subject.String(), r.NotAfter.UTC(), fingerprint(r)})
	}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err = leaf.Verify(o)
	return j, err
}

func algorithm(c *x509.Certificate) string {
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		return "ECDSA " + key.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func (j *identityJSON) print(t *tool) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t.out, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	now := t.clock.Time()
	if j.Pod != "" {
		line("pod", "%s", j.Pod)
	}
	line("node", "%s", j.Node)
	line("identity", "%s", j.ID)
	line("issuer", "%s", j.Issuer)
	line("serial", "%s", j.Serial)
	line("not before", "%s", j.NotBefore.Format(time.RFC3339))
	line("not after", "%s (%s)", j.NotAfter.Format(time.RFC3339), left(j.NotAfter.Sub(now)))
	line("key", "%s", j.Algorithm)
	line("sha256", "%s", j.SHA256)
	for _, r := range j.Roots {
		line("root", "%s, until %s, sha256 %s", r.Subject, r.NotAfter.Format(time.DateOnly), r.SHA256[:16])
	}
	if j.Problem != "" {
		line("problem", "%s", j.Problem)
	} else {
		line("trusted", "yes, by the node's roots")
	}
}

// left says how long something lasts.
func left(d time.Duration) string {
	switch {
	case d < 0:
		return "expired " + roundly(-d) + " ago"
	default:
		return roundly(d) + " left"
	}
}

func roundly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return d.Round(time.Second).String()
}
