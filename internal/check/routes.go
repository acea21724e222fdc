package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"

	"fairlead.io/fairlead/internal/kube/remote"
)

// routesGroup is about routes, and the policies of ours.
func routesGroup() Group {
	return Group{"routes and policies", []Check{
		{ID: "gateway-api", About: "the kinds of the Gateway API are known to the API server", Run: checkGatewayAPI},
		{ID: "gateway-api-version", About: "the Gateway API is of version 1.2 or newer", Run: checkGatewayVersion},
		{ID: "routes", About: "every route is in force, and each of its rules and references means something",
			Run: problemsOf("`kubectl describe` shows the route's status; mend what the line names", routeKind)},
		{ID: "policies", About: "every policy is in force, and about something",
			Run: problemsOf("`kubectl describe` shows the policy's status; mend its target, or delete it", policyKind)},
	}}
}

func routeKind(kind string) bool {
	return slices.Contains([]string{"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"}, kind)
}

func policyKind(kind string) bool {
	return slices.Contains([]string{"TrafficPolicy", "AuthorizationPolicy"}, kind)
}

func otherKind(kind string) bool { return !routeKind(kind) && !policyKind(kind) }

const gatewayHint = "install the CRDs of the Gateway API, standard channel, in version 1.2 or newer, if you want routes; the mesh works without"

// gatewayKinds are the CRDs that routes need. Those of the experimental channel may be missing.
var gatewayKinds = []string{"httproutes", "grpcroutes", "referencegrants"}

// gatewayCRDs are those of gatewayKinds that are there.
func (s *State) gatewayCRDs(ctx context.Context) ([]*unstructured.Unstructured, error) {
	return s.gateway.get(func() (all []*unstructured.Unstructured, err error) {
		for _, name := range gatewayKinds {
			o := &unstructured.Unstructured{}
			o.SetAPIVersion("apiextensions.k8s.io/v1")
			o.SetKind("CustomResourceDefinition")
			o.SetName(name + ".gateway.networking.k8s.io")
			o, err := s.Read(ctx, o)
			if remote.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		}
		return all, nil
	})
}

func checkGatewayAPI(ctx context.Context, s *State) ([]Finding, error) {
	there, err := s.gatewayCRDs(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range gatewayKinds {
		if !slices.ContainsFunc(there, func(o *unstructured.Unstructured) bool { return strings.HasPrefix(o.GetName(), name+".") }) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return []Finding{warned(gatewayHint, "the API server does not know: %s", strings.Join(missing, ", "))}, nil
	}
	return nil, nil
}

const (
	bundleVersion = "gateway.networking.k8s.io/bundle-version"
	bundleChannel = "gateway.networking.k8s.io/channel"
)

func checkGatewayVersion(ctx context.Context, s *State) ([]Finding, error) {
	there, err := s.gatewayCRDs(ctx)
	if err != nil {
		return nil, err
	}
	if len(there) == 0 {
		return nil, skip("the Gateway API is not installed")
	}
	var found []Finding
	for _, o := range there {
		is, channel := o.GetAnnotations()[bundleVersion], o.GetAnnotations()[bundleChannel]
		if why := unfit(is, channel); why != "" {
			found = append(found, warned(gatewayHint, "%s %s", o.GetName(), why))
		}
	}
	return found, nil
}

// unfit says why CRDs of a bundle are not what routes are tested with; empty if they are.
func unfit(bundle, channel string) string {
	v, err := version.ParseGeneric(bundle)
	switch {
	case bundle == "":
		return "does not say which version it is"
	case err != nil:
		return fmt.Sprintf("says that its version is %q", bundle)
	case v.LessThan(version.MustParseGeneric("1.2.0")):
		return "is of version " + bundle
	case channel != "standard" && channel != "experimental":
		return fmt.Sprintf("is of the channel %q, neither standard nor experimental", channel)
	}
	return ""
}
