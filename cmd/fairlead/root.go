package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

// tool is what every command shares: the global flags, and the streams.
type tool struct {
	in       io.Reader
	out, err io.Writer
	clock    fleet.Clock

	remote  remote.Options
	all     bool   // -A
	home    string // --fairlead-namespace
	format  string // -o of the command that runs
	cluster *remote.Client
}

// errSilent ends a command with status 1 when everything has been said.
var errSilent = errors.New("failed")

func execute(ctx context.Context, clock fleet.Clock, args []string, in io.Reader, out, stderr io.Writer) int {
	t := &tool{in: in, out: out, err: stderr, clock: clock}
	cmd := t.command()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errSilent):
		fmt.Fprintln(stderr, "fairlead:", err)
	}
	return 1
}

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "installs the mesh, checks it, and shows what passes through it",
		Long: `Fairlead is a service mesh without sidecars. This tool needs nothing but a kubeconfig: it reaches the
nodes' proxies and the controller through the API server.`,
		Version:       admin.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := root.PersistentFlags()
	f.StringVar(&t.remote.Kubeconfig, "kubeconfig", "", "file that says which clusters there are")
	f.StringVar(&t.remote.Context, "context", "", "context of the kubeconfig")
	f.StringVarP(&t.remote.Namespace, "namespace", "n", "", "namespace to look at, instead of the context's")
	f.BoolVarP(&t.all, "all-namespaces", "A", false, "look at all namespaces")
	f.StringVar(&t.home, "fairlead-namespace", "fairlead-system", "namespace that Fairlead is installed in")
	f.StringVar(&t.remote.As, "as", "", "user to act as")
	f.StringArrayVar(&t.remote.AsGroups, "as-group", nil, "group to act as, with --as; may be repeated")
	root.AddGroup(&cobra.Group{ID: "mesh", Title: "The mesh:"}, &cobra.Group{ID: "pods", Title: "Who is in it:"}, &cobra.Group{ID: "see", Title: "What passes through it:"})
	root.AddCommand(t.versionCommand(), t.checkCommand(), t.installCommand(), t.upgradeCommand(), t.uninstallCommand(),
		t.enrollCommand(), t.unenrollCommand(), t.injectCommand(),
		t.statCommand(), t.edgesCommand(), t.routesCommand(), t.authzCommand(), t.identityCommand(), t.endpointsCommand(), t.explainCommand())
	if err := t.completeFlags(root); err != nil {
		panic(err) // a flag that is not there: a mistake of ours
	}
	return root
}

// connect gives the cluster of the flags; the same one for the whole run.
func (t *tool) connect() (*remote.Client, error) {
	if t.cluster != nil {
		return t.cluster, nil
	}
	o := t.remote
	o.UserAgent = "fairlead/" + admin.Version
	c, err := remote.Connect(o)
	if err != nil {
		return nil, err
	}
	t.cluster = c
	return c, nil
}

// namespace is the one to look at; empty for all.
func (t *tool) namespace(c *remote.Client) string {
	if t.all {
		return ""
	}
	return c.Namespace()
}
