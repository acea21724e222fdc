package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/kube"
)

const uninstallUsage = `controller uninstall takes Fairlead out of a cluster: everybody leaves the mesh, the nodes are cleaned, and what the
controller has made is deleted. It can be run again.

`

// uninstall is the command of that name.
func uninstall(ctx context.Context, args []string, stderr io.Writer) error {
	cfg, kubeconfig, err := parseUninstall(args, stderr)
	if err != nil {
		return err
	}
	cfg.Log = slog.New(slog.NewJSONHandler(stderr, nil))
	if cfg.Client, err = kube.Connect(kubeconfig, "fairlead-uninstall/"+admin.Version, cfg.Log); err != nil {
		return err
	}
	return kube.NewUninstaller(cfg).Run(ctx)
}

func parseUninstall(args []string, stderr io.Writer) (cfg kube.UninstallConfig, kubeconfig string, err error) {
	f := flag.NewFlagSet("controller uninstall", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, uninstallUsage); f.PrintDefaults() }
	var manifest string
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; the pod's own account by default")
	f.StringVar(&cfg.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of Fairlead; $POD_NAMESPACE by default")
	f.StringVar(&cfg.IssuerSecret, "issuer-secret", kube.IssuerSecret, "Secret with the issuer; deleted if the controller has made it")
	f.StringVar(&cfg.RootsConfigMap, "roots-configmap", kube.RootsConfigMap, "ConfigMap with the roots; deleted if the controller has made it")
	f.StringVar(&manifest, "cleanup-manifest", "", "file with the DaemonSet "+kube.Cleanup+", which cleans a node and is then ready")
	f.DurationVar(&cfg.Timeout, "timeout", 2*time.Minute, "how long all may take; a third of it is for leaving the mesh in order")
	f.DurationVar(&cfg.Silence, "silence", 20*time.Second, "how long a controller or node that says nothing is waited for")
	if err := f.Parse(args); err != nil {
		return cfg, "", err
	}
	switch {
	case f.NArg() > 0:
		return cfg, "", fmt.Errorf("unknown argument %q", f.Arg(0))
	case cfg.Namespace == "":
		return cfg, "", errors.New("want --namespace, or $POD_NAMESPACE")
	case manifest == "":
		return cfg, "", errors.New("want --cleanup-manifest")
	case cfg.Timeout <= 0 || cfg.Silence <= 0:
		return cfg, "", errors.New("--timeout and --silence must be positive")
	}
	if cfg.Manifest, err = os.ReadFile(manifest); err != nil {
		return cfg, "", fmt.Errorf("read --cleanup-manifest: %w", err)
	}
	return cfg, kubeconfig, nil
}
