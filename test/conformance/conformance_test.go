// Package conformance runs the Gateway API's own conformance suite, the profiles of a mesh with all their features, on a real
// Kubernetes of two nodes: `make conformance`. The report is written to docs/conformance.
package conformance

import (
	"flag"
	"os"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

var (
	bin    = flag.String("bin", "../../bin", "directory with the programs that `make conformance` has built")
	images = flag.String("images", "../../dist/images", "directory with the images")
	report = flag.String("report", "", "where the report is written to")
	keep   = flag.Bool("keep", false, "leave the cluster up at the end, and use it if it is up")
	only   = flag.String("only", "", "the short name of one test of the suite")
)

// beside the profiles' own features, those without which tests of a mesh are skipped that no profile counts.
var beside = []features.FeatureName{
	features.SupportHTTPRouteResponseHeaderModification, features.SupportHTTPRouteParentRefPort,
	features.SupportHTTPRoute303RedirectStatusCode, features.SupportHTTPRoute307RedirectStatusCode, features.SupportHTTPRoute308RedirectStatusCode,
}

func TestConformance(t *testing.T) {
	lab := open(t)
	t.Setenv("KUBECONFIG", lab.Kubeconfig)
	opts := conformance.DefaultOptions(t)
	opts.SupportedFeatures = supported()
	opts.ConformanceProfiles = []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName}
	opts.NamespaceLabels = map[string]string{"fairlead.io/mesh": "enabled"}
	opts.CleanupBaseResources, opts.CleanupTestResources = true, true
	opts.ReportOutputPath, opts.RunTest = *report, *only
	opts.Implementation = confv1.Implementation{Organization: "fairlead", Project: "fairlead", URL: "https://fairlead.io", Version: version(t),
		Contact: []string{"https://fairlead.io"}}
	allAreRun(t, opts.SupportedFeatures)
	conformance.RunConformanceWithOptions(t, opts)
}

// allAreRun wants no test of a mesh skipped for a feature that was not named.
func allAreRun(t *testing.T, supported []features.FeatureName) {
	t.Helper()
	n := 0
	for _, test := range tests.ConformanceTests {
		if !slices.Contains(test.Features, features.SupportMesh) {
			continue
		}
		n++
		for _, f := range test.Features {
			if !slices.Contains(supported, f) {
				t.Errorf("%s needs %s, which is not named", test.ShortName, f)
			}
		}
	}
	if n < 22 {
		t.Errorf("%d tests of a mesh, there were 22", n)
	}
}

// supported are all features of a mesh.
func supported() []features.FeatureName {
	all := sets.New(beside...).Union(features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures,
		features.HTTPRouteCoreFeatures, features.GRPCRouteCoreFeatures))
	return all.UnsortedList()
}

func version(t *testing.T) string {
	t.Helper()
	if v := os.Getenv("VERSION"); v != "" {
		return v
	}
	return "devel"
}
