// Package crds holds the project's custom resource definitions to what an API server asks of them, and their rules to
// tables of objects, with the API server's own code and without a cluster. It is a module of its own for that code's sake.
package crds

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	structuralpruning "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

const chart = "../../deploy/daemonset/crds-upgraded"

// checker is what an API server holds objects of one kind against.
type checker struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func load(t testing.TB, name string) *checker {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "fairlead.io_"+name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var external apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &external); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	scheme.Default(&external)
	var crd apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&external, &crd, nil); err != nil {
		t.Fatal(err)
	}
	crd.Status.StoredVersions = []string{"v1alpha1"}
	for _, err := range crdvalidation.ValidateCustomResourceDefinition(t.Context(), &crd) {
		t.Error(err) // the cost of rules is in it
	}
	props := crd.Spec.Versions[0].Schema
	if props == nil {
		props = crd.Spec.Validation
	}
	structural, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	schema, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &checker{structural, schema, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// check is what is said of an object: the order is that of an API server. Fields that are not known are told, too.
func (c *checker) check(ctx context.Context, object map[string]any) field.ErrorList {
	var errs field.ErrorList
	defaulting.Default(object, c.structural)
	for _, path := range structuralpruning.PruneWithOptions(object, c.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, field.Invalid(field.NewPath(path), "", "unknown field"))
	}
	errs = append(errs, validation.ValidateCustomResource(nil, object, c.schema)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.structural, object)...)
	if len(errs) > 0 {
		return errs
	}
	errs, _ = c.rules.Validate(ctx, nil, c.structural, object, nil, celconfig.RuntimeCELCostBudget)
	return errs
}

// rule is an object's spec, and what is to be said of it: "" is nothing.
type rule struct{ spec, want string }

func (c *checker) table(t *testing.T, kind string, rules map[string]rule) {
	for name, r := range rules {
		t.Run(name, func(t *testing.T) {
			text, err := yaml.YAMLToJSON([]byte(r.spec))
			if err != nil {
				t.Fatal(err)
			}
			var spec map[string]any
			if err := json.Unmarshal(text, &spec); err != nil { // whole numbers stay such
				t.Fatal(err)
			}
			errs := c.check(t.Context(), map[string]any{
				"apiVersion": "fairlead.io/v1alpha1", "kind": kind, "metadata": map[string]any{"name": "p", "namespace": "shop"}, "spec": spec,
			})
			switch said := errs.ToAggregate(); {
			case r.want == "" && said != nil:
				t.Errorf("refused: %v", said)
			case r.want != "" && said == nil:
				t.Errorf("taken; wanted: %s", r.want)
			case r.want != "" && !strings.Contains(said.Error(), r.want):
				t.Errorf("said: %v\nwanted: %s", said, r.want)
			}
		})
	}
}

// traffic puts parts beside a target.
func traffic(parts string) string {
	return "targetRefs: [{kind: Service, name: web}]\n" + parts
}
