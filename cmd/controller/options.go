package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/kube"
	"fairlead.io/fairlead/internal/mesh"
)

// options are the command line.
type options struct {
	source        string
	trustDomain   string
	caCert, caKey string
	caDir         string
	roots         string
	tokens        string
	listen, admin string
	leafTTL       time.Duration
	system        string
	policy        mesh.DefaultPolicy
	warmUp, leave time.Duration
	logLevel      slog.Level
	kube          kubeOptions
	stderr        io.Writer
}

// kubeOptions are those of --source=kubernetes.
type kubeOptions struct {
	kubeconfig, namespace  string
	podName, podIP         string
	issuerSecret           string
	rootsConfigMap         string
	makeIssuer             bool
	issuerWait             time.Duration
	nodeAccount            string
	startupTaint           bool
	lease, renew, leaseTry time.Duration
}

const fromKubernetes = "kubernetes"

const usage = `controller serves the nodes of a mesh: identity, enrolment, discovery.

  controller --source=kubernetes --namespace=NAME
  controller --source=dir:PATH --trust-domain=NAME --ca-dir=PATH --tokens=FILE
  controller uninstall --namespace=NAME     (--help says more)

`

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{stderr: stderr}
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage); f.PrintDefaults() }
	f.StringVar(&o.source, "source", "", "where the objects come from: kubernetes, or dir:PATH, a directory of Kubernetes YAML")
	f.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "trust domain of all identities")
	f.StringVar(&o.caCert, "ca-cert", "", "issuer's certificate, PEM, with its own issuers behind it")
	f.StringVar(&o.caKey, "ca-key", "", "issuer's key, PEM")
	f.StringVar(&o.caDir, "ca-dir", "", "directory with tls.crt, tls.key and ca.crt; a CA is made in it if it is empty")
	f.StringVar(&o.roots, "roots", "", "trusted roots, PEM, one or more; ca.crt of --ca-dir, or the top of --ca-cert, by default")
	f.StringVar(&o.tokens, "tokens", "", "bootstrap tokens: lines \"node token\"")
	f.StringVar(&o.listen, "listen", ":9902", "address for the nodes (gRPC)")
	f.StringVar(&o.admin, "admin", ":9903", "address for /healthz, /readyz, /metrics and /problems")
	f.DurationVar(&o.leafTTL, "leaf-ttl", 4*time.Hour, "lifetime of the certificates of nodes and accounts")
	f.StringVar(&o.system, "system-namespaces", "kube-system,fairlead-system", "namespaces that are never enrolled; --namespace is one of them")
	f.Func("default-policy", "whose connections a pod takes, unless it or its namespace says: allow (everybody's), authenticated (those of the mesh), audit (everybody's, counted) or deny (what policies allow); default allow",
		func(s string) (err error) {
			o.policy, err = mesh.ParseDefaultPolicy(s)
			return err
		})
	f.DurationVar(&o.warmUp, "warm-up", 10*time.Second, "longest wait for the keepers after a start, before proxies are told the world")
	f.DurationVar(&o.leave, "leave", 10*time.Second, "longest wait for the proxies before a leaving pod is released")
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "lowest level that is logged: DEBUG, INFO, WARN or ERROR")
	o.kube.flags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	return o, o.check()
}

func (k *kubeOptions) flags(f *flag.FlagSet) {
	f.StringVar(&k.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster, for development; the pod's own account by default")
	f.StringVar(&k.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of Fairlead; $POD_NAMESPACE by default")
	f.StringVar(&k.podName, "pod-name", os.Getenv("POD_NAME"), "name by which this replica leads; $POD_NAME by default")
	f.StringVar(&k.podIP, "pod-ip", os.Getenv("POD_IP"), "address at which nodes reach this replica; $POD_IP by default")
	f.StringVar(&k.issuerSecret, "issuer-secret", kube.IssuerSecret, "Secret of type kubernetes.io/tls with the issuer")
	f.StringVar(&k.rootsConfigMap, "roots-configmap", kube.RootsConfigMap, "ConfigMap with the trusted roots, key ca.crt")
	f.BoolVar(&k.makeIssuer, "make-issuer", true, "make the Secret if it is not there; false if somebody else is going to")
	f.DurationVar(&k.issuerWait, "issuer-wait", time.Minute, "how long nodes are told new roots before an issuer under them is taken")
	f.StringVar(&k.nodeAccount, "node-account", kube.Node, "service account of the keepers, in --namespace")
	f.BoolVar(&k.startupTaint, "startup-taint", false, "take the taint "+kube.StartupTaint+" off nodes whose keepers have reported")
	f.DurationVar(&k.lease, "lease-duration", 15*time.Second, "how long others wait for a leader that is silent")
	f.DurationVar(&k.renew, "lease-renew", 10*time.Second, "how long a leader tries to renew its lease before it gives up")
	f.DurationVar(&k.leaseTry, "lease-retry", 2*time.Second, "pause between two tries to get or renew the lease")
}

func (o *options) check() error {
	if o.leafTTL < time.Second {
		return fmt.Errorf("--leaf-ttl=%v is too short", o.leafTTL)
	}
	files := o.caCert != "" || o.caKey != "" || o.caDir != "" || o.roots != "" || o.tokens != ""
	if o.source == fromKubernetes {
		if files {
			return errors.New("--source=kubernetes excludes --ca-dir, --ca-cert, --ca-key, --roots and --tokens: see --issuer-secret and --roots-configmap")
		}
		return o.kube.check()
	}
	if _, ok := strings.CutPrefix(o.source, "dir:"); !ok {
		return fmt.Errorf("--source=%s: want kubernetes or dir:PATH", o.source)
	}
	switch byFiles := o.caCert != "" || o.caKey != ""; {
	case byFiles && o.caDir != "":
		return errors.New("--ca-dir excludes --ca-cert and --ca-key")
	case byFiles && (o.caCert == "" || o.caKey == ""):
		return errors.New("--ca-cert and --ca-key go together")
	case !byFiles && o.caDir == "":
		return errors.New("want --ca-dir, or --ca-cert and --ca-key")
	}
	return nil
}

func (k *kubeOptions) check() error {
	if k.namespace == "" {
		return errors.New("want --namespace, or $POD_NAMESPACE")
	}
	if k.podName == "" {
		return errors.New("want --pod-name, or $POD_NAME: it is the name by which this replica leads")
	}
	if _, err := netip.ParseAddr(k.podIP); err != nil {
		return fmt.Errorf("--pod-ip=%s, or $POD_IP: want the address at which nodes reach this replica", k.podIP)
	}
	if k.leaseTry <= 0 || k.renew <= k.leaseTry || k.lease <= k.renew {
		return errors.New("want --lease-retry < --lease-renew < --lease-duration")
	}
	if k.issuerWait < 0 {
		return fmt.Errorf("--issuer-wait=%v", k.issuerWait)
	}
	return nil
}

func (o *options) dir() string { return strings.TrimPrefix(o.source, "dir:") }

func (o *options) systemNamespaces() []string {
	names := strings.FieldsFunc(o.system, func(r rune) bool { return r == ',' || r == ' ' })
	if o.source == fromKubernetes {
		names = append(names, o.kube.namespace)
	}
	return names
}
