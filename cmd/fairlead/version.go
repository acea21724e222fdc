package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/fleet"
)

// versions is what the version command has found.
type versions struct {
	Client      string         `json:"client"`
	Kubernetes  string         `json:"kubernetes,omitempty"`
	Controllers []versionOfPod `json:"controllers,omitempty"`
	Nodes       []versionOfPod `json:"nodes,omitempty"`
	// Unavailable says why nothing is known of the cluster.
	Unavailable string `json:"unavailable,omitempty"`
}

type versionOfPod struct {
	Node    string `json:"node,omitempty"`
	Pod     string `json:"pod"`
	Leader  bool   `json:"leader,omitempty"`
	Version string `json:"version,omitempty"`
	Err     string `json:"error,omitempty"`
}

func (t *tool) versionCommand() *cobra.Command {
	client := false
	cmd := &cobra.Command{
		Use:     "version",
		GroupID: "mesh",
		Short:   "versions of this tool, the controller and every node's proxy",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := &versions{Client: admin.Version}
			if !client {
				t.askVersions(cmd.Context(), v)
			}
			if t.format == "json" {
				return printJSON(t.out, v)
			}
			v.print(t)
			return nil
		},
	}
	t.formats(cmd, "table", "wide", "json")
	cmd.Flags().BoolVar(&client, "client", false, "of this tool only")
	return cmd
}

func (t *tool) askVersions(ctx context.Context, v *versions) {
	c, err := t.connect()
	if err != nil {
		v.Unavailable = err.Error()
		return
	}
	info, _, err := c.Version(ctx)
	if err != nil {
		v.Unavailable = fmt.Sprintf("%s does not answer: %v", c.Server(), err)
		return
	}
	v.Kubernetes = info.GitVersion
	f := t.fleet(c)
	controllers, err := f.ControllerPods(ctx)
	if err == nil {
		var nodes []corev1.Pod
		if nodes, err = f.NodePods(ctx); err == nil && len(controllers)+len(nodes) == 0 {
			err = fmt.Errorf("namespace %s has no pods of Fairlead", f.Home)
		}
		v.Nodes = versionsOf(ctx, f, nodes, fleet.ProxyName, "")
	}
	if err != nil {
		v.Unavailable = err.Error()
		return
	}
	leader, err := f.Leader(ctx)
	if err != nil {
		leader = ""
	}
	v.Controllers = versionsOf(ctx, f, controllers, fleet.ControllerContainer, leader)
}

func versionsOf(ctx context.Context, f *fleet.Fleet, pods []corev1.Pod, container, leader string) []versionOfPod {
	var all []versionOfPod
	for _, t := range fleet.Scrape(ctx, f, pods, container) {
		v := versionOfPod{Node: t.Node(), Pod: t.Pod.Name, Leader: fleet.IsHolder(leader, t.Pod.Name)}
		if v.Version = t.What.Label("fairlead_build_info", "version"); v.Version == "" {
			v.Err = "it does not say"
		}
		if t.Err != nil {
			v.Err = t.Err.Error()
		}
		all = append(all, v)
	}
	return all
}

func (v *versions) print(t *tool) {
	table := newTable("PROGRAM", "VERSION", "WHERE")
	table.row("client", v.Client, "here")
	if v.Unavailable != "" {
		table.row("server", "unavailable", v.Unavailable)
		table.print(t.out)
		return
	}
	if v.Kubernetes != "" {
		table.row("kubernetes", v.Kubernetes, t.cluster.Server())
	}
	if v.Kubernetes != "" && len(v.Controllers) == 0 {
		table.row("controller", "unavailable", "there is no pod of it")
	}
	for _, p := range v.Controllers {
		where := "pod " + p.Pod
		if p.Leader {
			where += ", leader"
		}
		table.row(p.cells("controller", where)...)
	}
	for _, p := range v.Nodes {
		table.row(p.cells("proxy", "node "+p.Node)...)
	}
	table.print(t.out)
}

func (p *versionOfPod) cells(program, where string) []string {
	if p.Err != "" {
		return []string{program, "unavailable", where + ": " + p.Err}
	}
	return []string{program, p.Version, where}
}
