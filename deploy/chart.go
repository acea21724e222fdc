// Package deploy is the Helm chart of Fairlead, embedded, and what it comes to with some values.
//
//  1. One chart: `helm install` and the command line tool render the same files, with Helm's own engine.
//  2. Nothing is asked of a cluster, a network or a clock: equal options give equal objects, in equal order.
//  3. Values are checked against the chart's schema before anything is rendered. What is unknown is an error, not ignored.
//  4. What is rendered is parsed strictly: an object with a key twice, without a name or without a kind is an error.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"
)

// root is the chart's directory in this package, and what is embedded of it. Without "all:" Go would leave out
// the files that begin with an underscore, which Helm renders nothing of but others use.
const root = "daemonset"

//go:embed all:daemonset
var files embed.FS

// Chart loads the embedded chart anew: the caller may change what it gets.
func Chart() (*chart.Chart, error) {
	buffered, err := Files()
	if err != nil {
		return nil, err
	}
	loaded, err := loader.LoadFiles(buffered)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	return loaded, nil
}

// Files are the chart's files in order, with names relative to its directory, as a chart's archive has them.
func Files() ([]*archive.BufferedFile, error) {
	var all []*archive.BufferedFile
	err := fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		all = append(all, &archive.BufferedFile{Name: strings.TrimPrefix(name, root+"/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded chart: %w", err)
	}
	return all, nil
}

// Profile is one of the files of values beside values.yaml: "ha" is values-ha.yaml, "k3s" values-k3s.yaml.
func Profile(name string) (map[string]any, error) {
	data, err := files.ReadFile(path.Join(root, "values-"+name+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("no profile %q: %w", name, err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(data, &values); err != nil {
		return nil, fmt.Errorf("read profile %q: %w", name, err)
	}
	return values, nil
}
