package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"fairlead.io/fairlead/deploy"
	"fairlead.io/fairlead/internal/admin"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

// installation is what an installation by this tool is made from. It is kept in the cluster, in the Secret valuesName, so
// that an upgrade needs no more than to be asked for.
type installation struct {
	HA     bool           `json:"ha,omitempty"`
	Values map[string]any `json:"values,omitempty"`
}

const valuesName = "fairlead-values"

func (t *tool) installCommand() *cobra.Command {
	var v valueFlags
	i := installation{}
	cmd := &cobra.Command{
		Use:     "install",
		GroupID: "mesh",
		Short:   "print the manifests of an installation",
		Long: `Renders the chart that is part of this tool, the same that 'helm install' installs, with the Namespace and its Pod Security label.
It speaks to no cluster: 'fairlead check --pre' does, and says whether the installation will work.

The values are kept in the Secret ` + valuesName + `, without the issuer's key: 'fairlead upgrade' takes them from there.`,
		Example: `  fairlead install | kubectl apply -f -
  fairlead install --ha --set image.repository=registry.example.com/fairlead | kubectl apply -f -
  fairlead install --set-file identity.trustAnchors=ca.crt --set-file identity.issuer.crt=issuer.crt --set-file identity.issuer.key=issuer.key`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			values, err := v.over(nil, t.in)
			if err != nil {
				return err
			}
			i.Values = values
			return t.printInstallation(&i, false)
		},
	}
	t.formats(cmd, "yaml")
	cmd.Flags().BoolVar(&i.HA, "ha", false, "three controllers, of which one leads")
	v.add(cmd)
	return cmd
}

func (t *tool) upgradeCommand() *cobra.Command {
	var v valueFlags
	ha, reset := false, false
	cmd := &cobra.Command{
		Use:     "upgrade",
		GroupID: "mesh",
		Short:   "print the manifests of this version, with the values in use",
		Long: `Renders the chart of this tool's version with the values that the installation has, and with those that are given here on top.
An installation by Helm is upgraded by 'helm upgrade'.

The nodes are updated one after the other, without a refused connection.`,
		Example: `  fairlead upgrade | kubectl apply -f -
  fairlead upgrade --set controller.replicas=3 | kubectl apply -f -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i, err := t.installed(cmd.Context())
			if err != nil {
				return err
			}
			if reset {
				i = &installation{}
			}
			if cmd.Flags().Changed("ha") {
				i.HA = ha
			}
			if i.Values, err = v.over(i.Values, t.in); err != nil {
				return err
			}
			return t.printInstallation(i, true)
		},
	}
	t.formats(cmd, "yaml")
	cmd.Flags().BoolVar(&ha, "ha", false, "three controllers, of which one leads; --ha=false takes that back")
	cmd.Flags().BoolVar(&reset, "reset-values", false, "forget the values in use")
	v.add(cmd)
	return cmd
}

// installed reads what the installation in the cluster was made from.
func (t *tool) installed(ctx context.Context) (*installation, error) {
	c, err := t.connect()
	if err != nil {
		return nil, err
	}
	secret, err := remote.Get[corev1.Secret](ctx, c, t.home, valuesName)
	if err == nil {
		i := &installation{}
		if err := yaml.Unmarshal(secret.Data["installation.yaml"], i); err != nil {
			return nil, fmt.Errorf("read Secret %s: %w", valuesName, err)
		}
		return i, nil
	}
	if !remote.IsNotFound(err) {
		return nil, err
	}
	if releases, err := remote.List[corev1.Secret](ctx, c, remote.Query{Namespace: t.home, Labels: "owner=helm"}); err == nil && len(releases) > 0 {
		return nil, fmt.Errorf("namespace %s has the Helm release %s: use helm for it, as it was installed by", t.home, releases[0].Labels["name"])
	}
	return nil, fmt.Errorf("namespace %s has no installation by this tool (there is no Secret %s)", t.home, valuesName)
}

// options are the chart's. The namespace is always part of what this tool installs.
func (i *installation) options(home string) (deploy.Options, error) {
	values := copied(i.Values)
	namespace, err := tableOf(values, "namespace")
	if err != nil {
		return deploy.Options{}, err
	}
	namespace["create"] = true
	o := deploy.Options{Namespace: home, Values: values, HA: i.HA}
	if admin.Version != "devel" {
		o.AppVersion = admin.Version
	}
	return o, nil
}

func (t *tool) printInstallation(i *installation, upgrade bool) error {
	o, err := i.options(t.home)
	if err != nil {
		return err
	}
	o.Upgrade = upgrade
	r, err := deploy.Render(o)
	if err != nil {
		return err
	}
	kept, err := i.secret(t.home)
	if err != nil {
		return err
	}
	return deploy.YAML(t.out, append(r.Objects, kept))
}

// secret is where the installation keeps its values. The issuer's key is a Secret of its own, and stays in that one alone.
func (i *installation) secret(home string) (*unstructured.Unstructured, error) {
	kept := installation{HA: i.HA, Values: copied(i.Values)}
	if id, _ := kept.Values["identity"].(map[string]any); id != nil {
		if issuer, _ := id["issuer"].(map[string]any); issuer != nil && issuer["key"] != nil && issuer["key"] != "" {
			delete(issuer, "key")
			delete(issuer, "crt")
			issuer["existingSecret"] = fleet.IssuerName
		}
	}
	text, err := yaml.Marshal(kept)
	if err != nil {
		return nil, err
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
		"metadata": map[string]any{"name": valuesName, "namespace": home,
			"labels": map[string]any{"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "installation"}},
		"stringData": map[string]any{"installation.yaml": string(text)},
	}}, nil
}

// chartFor is what the chart of this tool installs, for the checks.
func chartFor(home string) func(issuer, roots string) ([]*unstructured.Unstructured, error) {
	return func(issuer, roots string) ([]*unstructured.Unstructured, error) {
		id := map[string]any{}
		if issuer != fleet.IssuerName {
			id["issuer"] = map[string]any{"existingSecret": issuer}
		}
		if roots != fleet.RootsName {
			id["existingRootsConfigMap"] = roots
			id["issuer"] = map[string]any{"existingSecret": issuer}
		}
		i := installation{Values: map[string]any{"identity": id}}
		o, err := i.options(home)
		if err != nil {
			return nil, err
		}
		o.IncludeHooks = true
		r, err := deploy.Render(o)
		if err != nil {
			return nil, errors.Join(errors.New("the chart cannot be rendered"), err)
		}
		all := r.Objects
		for _, h := range r.Hooks {
			all = append(all, h.Object)
		}
		return all, nil
	}
}
