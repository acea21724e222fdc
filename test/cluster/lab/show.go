package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"text/tabwriter"
	"time"
)

// paths is what programs ask about a cluster.
type paths struct {
	Name       string      `json:"name"`
	Kubeconfig string      `json:"kubeconfig"`
	Kubectl    string      `json:"kubectl"`
	Helm       string      `json:"helm"`
	Run        string      `json:"run"`
	Cache      string      `json:"cache"`
	Switch     pathsNode   `json:"switch"`
	Nodes      []pathsNode `json:"nodes"`
}

type pathsNode struct {
	Name     string `json:"name,omitempty"`
	PID      int    `json:"pid"` // 0: it does not run
	Address  string `json:"address"`
	PodCIDR  string `json:"podCIDR,omitempty"`
	Cgroup   string `json:"cgroup,omitempty"`   // in cgroup2, as this machine sees it
	Services string `json:"services,omitempty"` // the directory of the services' logs
}

// Paths writes as JSON where everything is.
func (l *Lab) Paths(out io.Writer) error {
	hub, _ := l.records().Get(switchRecord)
	p := paths{Name: l.Cluster.Name, Kubeconfig: l.Kubeconfig(), Kubectl: l.Kubectl(), Helm: l.Helm(), Run: l.dir, Cache: l.Build,
		Switch: pathsNode{PID: hub.PID, Address: l.Cluster.Switch()[0].Addr().String()}}
	for _, n := range l.Cluster.All() {
		spec, err := l.spec(n)
		if err != nil {
			return err
		}
		row := pathsNode{Name: n.Name, Address: n.Addresses[0].Addr().String(), PodCIDR: n.Pods[0].String(), Cgroup: spec.Cgroup.Dir(),
			Services: spec.LogDir()}
		if id, ok := l.records().Get(n.Name); ok {
			row.PID = id.PID
		}
		p.Nodes = append(p.Nodes, row)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(p)
}

// Status writes what runs, and what Kubernetes says of it.
func (l *Lab) Status(ctx context.Context, out io.Writer) error {
	all, err := l.records().All()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, name := range append([]string{switchRecord}, names(l.Cluster.All())...) {
		state := "does not run"
		if id := all[name]; id.Alive() {
			state = fmt.Sprintf("process %d", id.PID)
		}
		fmt.Fprintf(table, "%s\t%s\n", name, state)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, what := range []string{"nodes", "pods"} {
		cmd := exec.CommandContext(ctx, l.Kubectl(), "get", what, "-A", "-o", "wide", "--request-timeout=10s")
		cmd.Env = append(os.Environ(), "KUBECONFIG="+l.Kubeconfig())
		cmd.Stdout, cmd.Stderr = out, out
		cmd.WaitDelay = time.Second
		fmt.Fprintln(out)
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("kubectl get %s: %w", what, err)
		}
	}
	return nil
}
