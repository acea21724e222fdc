package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

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
	stderr        io.Writer
}

const usage = `controller serves the nodes of a mesh: identity, enrolment, discovery.

  controller --source=dir:PATH --trust-domain=NAME --ca-dir=PATH --tokens=FILE

`

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{stderr: stderr}
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage); f.PrintDefaults() }
	f.StringVar(&o.source, "source", "", "where the objects come from: dir:PATH, a directory of Kubernetes YAML")
	f.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "trust domain of all identities")
	f.StringVar(&o.caCert, "ca-cert", "", "issuer's certificate, PEM, with its own issuers behind it")
	f.StringVar(&o.caKey, "ca-key", "", "issuer's key, PEM")
	f.StringVar(&o.caDir, "ca-dir", "", "directory with tls.crt, tls.key and ca.crt; a CA is made in it if it is empty")
	f.StringVar(&o.roots, "roots", "", "trusted roots, PEM, one or more; ca.crt of --ca-dir, or the top of --ca-cert, by default")
	f.StringVar(&o.tokens, "tokens", "", "bootstrap tokens: lines \"node token\"")
	f.StringVar(&o.listen, "listen", ":9902", "address for the nodes (gRPC)")
	f.StringVar(&o.admin, "admin", ":9903", "address for /readyz, /metrics and /problems")
	f.DurationVar(&o.leafTTL, "leaf-ttl", 4*time.Hour, "lifetime of the certificates of nodes and accounts")
	f.StringVar(&o.system, "system-namespaces", "kube-system,fairlead-system", "namespaces that are never enrolled")
	f.Func("default-policy", "whose connections a pod takes, unless it or its namespace says: allow (everybody's) or authenticated (those of the mesh); default allow",
		func(s string) (err error) {
			o.policy, err = mesh.ParseDefaultPolicy(s)
			return err
		})
	f.DurationVar(&o.warmUp, "warm-up", 10*time.Second, "longest wait for the keepers after a start, before proxies are told the world")
	f.DurationVar(&o.leave, "leave", 10*time.Second, "longest wait for the proxies before a leaving pod is released")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	return o, o.check()
}

func (o *options) check() error {
	if _, ok := strings.CutPrefix(o.source, "dir:"); !ok {
		return fmt.Errorf("--source=%s: want dir:PATH", o.source)
	}
	switch byFiles := o.caCert != "" || o.caKey != ""; {
	case byFiles && o.caDir != "":
		return errors.New("--ca-dir excludes --ca-cert and --ca-key")
	case byFiles && (o.caCert == "" || o.caKey == ""):
		return errors.New("--ca-cert and --ca-key go together")
	case !byFiles && o.caDir == "":
		return errors.New("want --ca-dir, or --ca-cert and --ca-key")
	}
	if o.leafTTL < time.Second {
		return fmt.Errorf("--leaf-ttl=%v is too short", o.leafTTL)
	}
	return nil
}

func (o *options) dir() string { return strings.TrimPrefix(o.source, "dir:") }

func (o *options) systemNamespaces() []string {
	return strings.FieldsFunc(o.system, func(r rune) bool { return r == ',' || r == ' ' })
}
