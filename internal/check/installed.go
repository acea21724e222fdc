package check

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
)

// checkCRDs looks for the kinds of object that are ours.
func checkCRDs(ctx context.Context, s *State) ([]Finding, error) {
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	known := 0
	for _, o := range objects {
		if o.GetKind() != "CustomResourceDefinition" {
			continue
		}
		known++
		there, err := s.Read(ctx, o)
		if remote.IsNotFound(err) {
			found = append(found, failed("install Fairlead again: "+installHint, "there is no CustomResourceDefinition %s", o.GetName()))
			continue
		}
		if err != nil {
			return nil, err
		}
		const version, unreleased = "app.kubernetes.io/version", "devel" // a directory's chart says so, whatever is in it
		if is, want := there.GetLabels()[version], o.GetLabels()[version]; is != want && want != "" && is != unreleased {
			found = append(found, warned("`fairlead upgrade`, or use the tool of the version that is installed",
				"the CustomResourceDefinition %s is of version %s, this tool has that of %s", o.GetName(), first(is, "unknown"), want))
		}
	}
	if known == 0 {
		return nil, skip("this version has none")
	}
	return found, nil
}

// checkRBAC asks for every right that the chart gives to the controller.
func checkRBAC(ctx context.Context, s *State) ([]Finding, error) {
	objects, err := s.objects(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, o := range objects {
		if o.GetName() != fleet.ControllerName || o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
			continue
		}
		for _, a := range accessesOf(o) {
			allowed, err := s.CanAccount(ctx, s.Home, fleet.ControllerName, a)
			if err != nil {
				return nil, err
			}
			if !allowed {
				missing = append(missing, strings.TrimSpace(fmt.Sprintf("%s %s %s", a.Verb, a.Resource, a.Name))+inNamespace(a.Namespace))
			}
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return []Finding{failed("put the chart's roles and bindings back: `helm upgrade --force-conflicts`, or `fairlead upgrade | kubectl apply --server-side --force-conflicts -f -` where it was installed by that",
		"the account %s may not: %s", fleet.ControllerName, strings.Join(missing, "; "))}, nil
}

// accessesOf takes a role apart.
func accessesOf(o *unstructured.Unstructured) []remote.Access {
	rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
	var all []remote.Access
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		names := texts(rule, "resourceNames")
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range texts(rule, "apiGroups") {
			for _, resource := range texts(rule, "resources") {
				for _, verb := range texts(rule, "verbs") {
					for _, name := range names {
						all = append(all, remote.Access{Verb: verb, Group: group, Resource: resource, Name: name, Namespace: o.GetNamespace()})
					}
				}
			}
		}
	}
	return all
}

func texts(rule map[string]any, field string) []string {
	all, _, _ := unstructured.NestedStringSlice(rule, field)
	return all
}
