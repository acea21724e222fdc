package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec" //nolint:depguard // the user's own kubectl is asked for its version, which nobody else knows
	"time"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/check"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

type checkOptions struct {
	before, mesh bool
	wait         time.Duration
}

func (t *tool) checkCommand() *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:     "check",
		GroupID: "mesh",
		Short:   "is the cluster fit for the mesh, and does the mesh work?",
		Long: `Checks the installation: the controller, the certificates, and every node. What is wrong is named, with a hint that mends it.

The exit status is 1 if a check fails; warnings leave it at 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.check(cmd.Context(), o) },
	}
	t.formats(cmd, "table", "wide", "short", "json")
	f := cmd.Flags()
	f.BoolVar(&o.before, "pre", false, "check whether Fairlead can be installed")
	f.BoolVar(&o.mesh, "proxy", false, "check the namespaces and pods that are to be in the mesh too; -n for one namespace")
	f.DurationVar(&o.wait, "wait", 0, "check again until nothing fails, for so long")
	return cmd
}

func (o *checkOptions) groups() []check.Group {
	switch {
	case o.before:
		return check.Before()
	case o.mesh:
		return check.Mesh()
	}
	return check.Installed()
}

// checkPause is the time between two runs with --wait.
const checkPause = 2 * time.Second

func (t *tool) check(ctx context.Context, o *checkOptions) error {
	if o.before && o.mesh {
		return errors.New("--pre and --proxy exclude each other")
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	options := check.Options{Version: admin.Version, Kubectl: kubectlVersion, Chart: chartFor(t.home)}
	if t.remote.Namespace != "" {
		options.Namespace = t.remote.Namespace
	}
	until := t.clock.Time().Add(o.wait)
	var report *check.Report
	failures := 0
	for {
		report = check.Run(ctx, check.New(t.fleet(c), options), o.groups())
		if o.wait > 0 && report.Failures != failures {
			failures = report.Failures
			fmt.Fprintf(t.err, "failures: %d\n", failures)
		}
		if report.Success || !t.clock.Time().Before(until) || t.clock.Wait(ctx, checkPause) != nil {
			break
		}
	}
	if t.format == "json" {
		err = printJSON(t.out, report)
	} else {
		report.Print(t.out, t.format == "short")
	}
	if err == nil && !report.Success {
		return errSilent
	}
	return err
}

func (t *tool) fleet(c *remote.Client) *fleet.Fleet {
	return &fleet.Fleet{Client: c, Home: t.home, Clock: t.clock}
}

// kubectlVersion asks the user's kubectl; empty if there is none.
func kubectlVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "kubectl", "version", "--client", "--output=json").Output()
	if err != nil {
		return ""
	}
	var v struct {
		ClientVersion struct {
			GitVersion string `json:"gitVersion"`
		} `json:"clientVersion"`
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return ""
	}
	return fmt.Sprint(v.ClientVersion.GitVersion)
}
