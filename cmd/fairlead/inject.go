package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/inject"
)

func (t *tool) injectCommand() *cobra.Command {
	disable := false
	cmd := &cobra.Command{
		Use:     "inject FILE... | -",
		GroupID: "pods",
		Short:   "label manifests, so that what they make is in the mesh",
		Long: `Reads manifests, YAML or JSON, and writes them with the label fairlead.io/mesh=enabled on Namespaces, Pods and the pod templates of
workloads. Nothing else changes: comments and order stay.

For those who keep all in manifests. A new label in a pod template makes new pods, as every change of one does;
'fairlead enroll' brings a namespace's running pods into the mesh without that.`,
		Example: `  kubectl get deploy web -o yaml | fairlead inject - | kubectl apply -f -
  fairlead inject web.yaml > web-in-the-mesh.yaml
  fairlead inject --disable job.yaml | kubectl apply -f -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			label := inject.Label{Key: compile.EnrolLabel, Value: compile.Enabled}
			if disable {
				label.Value = compile.Disabled
			}
			return t.inject(args, label)
		},
	}
	cmd.Flags().BoolVar(&disable, "disable", false, "keep what they make out of the mesh instead")
	return cmd
}

func (t *tool) inject(files []string, label inject.Label) error {
	total := 0
	for i, name := range files {
		out, labelled, err := t.injectFile(name, label)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if i > 0 {
			fmt.Fprintln(t.out, "---")
		}
		if _, err := t.out.Write(out); err != nil {
			return err
		}
		total += labelled
	}
	fmt.Fprintf(t.err, "labelled: %d\n", total)
	return nil
}

func (t *tool) injectFile(name string, label inject.Label) (out []byte, labelled int, err error) {
	r := t.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, err
		}
		defer f.Close()
		r = f
	}
	return inject.Manifests(r, label)
}
