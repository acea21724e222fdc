package deploy

import (
	"bytes"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// TestPackageIsAChart packages the chart, has Helm read the archive, and renders that.
func TestPackageIsAChart(t *testing.T) {
	p := Package{AppVersion: "v1.2.3-4-gabcdef0", Repository: "localhost:5000/mesh"}
	data, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Bytes()
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("packaged twice, it differs: %v", err)
	}
	c, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if c.Metadata.Version != "1.2.3-4-gabcdef0" || c.Metadata.AppVersion != p.AppVersion || c.Metadata.Name != "fairlead" {
		t.Errorf("%+v", c.Metadata)
	}
	r, err := RenderChart(c, Options{IncludeHooks: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range podsOf(t, r).node.Containers {
		if c.Image != "localhost:5000/mesh/node:v1.2.3-4-gabcdef0" {
			t.Errorf("image %s", c.Image)
		}
	}
	tree, err := Files()
	if err != nil || len(c.Raw) != len(tree) {
		t.Errorf("%d files in the archive, %d in the tree, %v", len(c.Raw), len(tree), err)
	}
}

func TestChartVersion(t *testing.T) {
	for app, want := range map[string]string{
		"v0.2.0": "0.2.0", "0.2.0": "0.2.0", "v0.2.0-3-gabc1234": "0.2.0-3-gabc1234", "v0.2.0-3-gabc1234-dirty": "0.2.0-3-gabc1234-dirty",
		"abc1234": "0.1.0-gabc1234", "0123456": "0.1.0-g0123456", "abc1234-dirty": "0.1.0-gabc1234-dirty", "v0.2.0-rc.1": "0.2.0-rc.1", "v0.2": "0.1.0-gv0-2", "devel": "0.1.0-gdevel",
	} {
		data, err := Package{AppVersion: app}.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		c, err := loader.LoadArchive(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err != nil || c.Metadata.Version != want {
			t.Errorf("%s: %s, want %s, %v", app, c.Metadata.Version, want, err)
		}
	}
}
