package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Names that an installation has unless it is told others.
const (
	DefaultRelease   = "fairlead"
	DefaultNamespace = "fairlead-system"
)

// defaultKubeVersion is what the chart is rendered for when nobody has asked the cluster: the oldest that it allows.
const defaultKubeVersion = "v1.30.0"

// Options say what is rendered. The zero value is the chart with its defaults.
type Options struct {
	ReleaseName string // DefaultRelease if empty
	Namespace   string // DefaultNamespace if empty
	Values      map[string]any
	// HA lays the chart's profile "ha" below Values.
	HA bool
	// AppVersion replaces the chart's: it is the tag of the images unless Values have another.
	AppVersion string
	// KubeVersion is the cluster's, as "v1.33.1". The chart refuses one that is too old.
	KubeVersion string
	// APIVersions are what the cluster serves beside Kubernetes' own, as "monitoring.coreos.com/v1".
	APIVersions []string
	// IncludeHooks puts the hooks into the result: those of `helm install` and of `helm uninstall`.
	IncludeHooks bool
	// Upgrade is true when a release is there already.
	Upgrade bool
}

// Rendered is what the chart comes to.
type Rendered struct {
	// Objects are in the order in which they are to be applied, the namespace first if there is one.
	Objects []*unstructured.Unstructured
	// Hooks are in the order in which they are to be run, by weight, then kind, then name.
	Hooks []Hook
	// Notes are what Helm would print.
	Notes string
}

// Hook is an object that lives for one event of the release.
type Hook struct {
	Object *unstructured.Unstructured
	// Events, as "pre-delete".
	Events []string
	Weight int
	// Delete says when the object is removed, as "before-hook-creation" and "hook-succeeded".
	Delete []string
}

// On tells whether a hook is of an event.
func (h Hook) On(event string) bool { return slices.Contains(h.Events, event) }

// Render renders the embedded chart.
func Render(o Options) (*Rendered, error) {
	c, err := Chart()
	if err != nil {
		return nil, err
	}
	return RenderChart(c, o)
}

// RenderChart renders a chart, as Chart gives it or changed.
func RenderChart(c *chart.Chart, o Options) (*Rendered, error) {
	if o.AppVersion != "" {
		c.Metadata.AppVersion = o.AppVersion
	}
	capabilities, err := o.capabilities()
	if err != nil {
		return nil, err
	}
	if want := c.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, capabilities.KubeVersion.String()) {
		return nil, fmt.Errorf("kubernetes %s is not supported: the chart needs %s", capabilities.KubeVersion.Version, want)
	}
	values, err := o.values()
	if err != nil {
		return nil, err
	}
	in, err := util.ToRenderValues(c, values, common.ReleaseOptions{
		Name: orDefault(o.ReleaseName, DefaultRelease), Namespace: orDefault(o.Namespace, DefaultNamespace),
		Revision: 1, IsInstall: !o.Upgrade, IsUpgrade: o.Upgrade,
	}, capabilities)
	if err != nil {
		return nil, fmt.Errorf("check values: %w", err)
	}
	// Strict: a template that names a value which is not there is a mistake, and here it is found.
	out, err := engine.Engine{Strict: true}.RenderWithContext(context.Background(), c, in)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	return collect(out, o.IncludeHooks)
}

func (o Options) capabilities() (*common.Capabilities, error) {
	version, err := common.ParseKubeVersion(orDefault(o.KubeVersion, defaultKubeVersion))
	if err != nil {
		return nil, fmt.Errorf("kubernetes version %q: %w", o.KubeVersion, err)
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	capabilities.APIVersions = slices.Concat(capabilities.APIVersions, common.VersionSet(o.APIVersions))
	if o.IncludeHooks { // or the chart takes it that nobody runs them
		capabilities.APIVersions = append(capabilities.APIVersions, "apps/v1/DaemonSet")
	}
	return capabilities, nil
}

// values are the caller's, over those of the profile.
func (o Options) values() (map[string]any, error) {
	if !o.HA {
		return o.Values, nil
	}
	ha, err := Profile("ha")
	if err != nil {
		return nil, err
	}
	return util.MergeTables(copied(o.Values), ha), nil
}

// copied is deep, because merging writes into tables.
func copied(values map[string]any) map[string]any {
	c := make(map[string]any, len(values))
	for key, value := range values {
		if table, ok := value.(map[string]any); ok {
			value = copied(table)
		}
		c[key] = value
	}
	return c
}

// collect sorts what the templates gave, by name, into notes, hooks and objects.
func collect(out map[string]string, hooks bool) (*Rendered, error) {
	r := &Rendered{}
	manifests := make(map[string]string, len(out))
	for name, text := range out {
		if path.Base(name) == "NOTES.txt" {
			r.Notes = text
			continue
		}
		manifests[name] = text
	}
	sortedHooks, sorted, err := releaseutil.SortManifests(manifests, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, fmt.Errorf("sort what was rendered: %w", err)
	}
	for _, m := range sorted {
		object, err := parse(m.Name, m.Content)
		if err != nil {
			return nil, err
		}
		r.Objects = append(r.Objects, object)
	}
	if !hooks {
		return r, nil
	}
	for _, h := range sortedHooks {
		hook, err := newHook(h)
		if err != nil {
			return nil, err
		}
		r.Hooks = append(r.Hooks, hook)
	}
	slices.SortStableFunc(r.Hooks, func(a, b Hook) int { return a.Weight - b.Weight })
	return r, nil
}

func newHook(h *release.Hook) (Hook, error) {
	object, err := parse(h.Path, h.Manifest)
	if err != nil {
		return Hook{}, err
	}
	hook := Hook{Object: object, Weight: h.Weight}
	for _, e := range h.Events {
		hook.Events = append(hook.Events, e.String())
	}
	for _, p := range h.DeletePolicies {
		hook.Delete = append(hook.Delete, p.String())
	}
	return hook, nil
}

func parse(name, text string) (*unstructured.Unstructured, error) {
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	if object.GetName() == "" {
		return nil, fmt.Errorf("parse %s: %w", name, errors.New("an object without a name"))
	}
	return object, nil
}

// YAML writes objects as one stream, as `kubectl apply -f -` reads it.
func YAML(w io.Writer, objects []*unstructured.Unstructured) error {
	var all bytes.Buffer
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return fmt.Errorf("write %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		all.WriteString("---\n")
		all.Write(text)
	}
	_, err := w.Write(all.Bytes())
	return err
}

func orDefault(s, otherwise string) string {
	if s = strings.TrimSpace(s); s != "" {
		return s
	}
	return otherwise
}
