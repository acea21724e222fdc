package kube

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// Rule is one rule of a role, and what it is for.
type Rule struct {
	rbacv1.PolicyRule
	Why string
}

// Roles are all that one ServiceAccount may do: in the whole cluster, and in the namespace of Fairlead.
type Roles struct {
	Cluster, Namespace []Rule
}

// ControllerRoles are those of the controller, whose Secret and ConfigMap may bear other names. The chart states
// them in YAML, and a test of the chart compares; a test of this package holds them against every request of a
// controller's life.
func ControllerRoles(issuerSecret, rootsConfigMap string) Roles {
	read := []string{"list", "watch"}
	return Roles{
		Cluster: []Rule{
			rule("what is compiled for the nodes", read, "", "namespaces", "nodes", "pods", "serviceaccounts", "services"),
			rule("the endpoints of services", read, "discovery.k8s.io", "endpointslices"),
			rule("routes, and who may refer to whom", read, gatewayGroup, "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "referencegrants"),
			rule("policies", read, ownGroup, "trafficpolicies", "authorizationpolicies"),
			rule("what has become of a route, of which others may have written too", []string{"get"}, gatewayGroup,
				"httproutes", "grpcroutes", "tlsroutes", "tcproutes"),
			rule("what has become of a route", []string{"update"}, gatewayGroup,
				"httproutes/status", "grpcroutes/status", "tlsroutes/status", "tcproutes/status"),
			rule("what has become of a policy, as it stands there", []string{"get"}, ownGroup, "trafficpolicies", "authorizationpolicies"),
			rule("what has become of a policy", []string{"update"}, ownGroup, "trafficpolicies/status", "authorizationpolicies/status"),
			rule("whose token a keeper shows", []string{"create"}, "authentication.k8s.io", "tokenreviews"),
		},
		Namespace: []Rule{
			rule("the pod that a keeper's token is bound to, and the node that it runs on", []string{"get"}, "", "pods"),
			rule("one replica leads", []string{"create"}, "coordination.k8s.io", "leases"),
			named(rule("one replica leads", []string{"get", "update"}, "coordination.k8s.io", "leases"), Controller),
			rule("nodes find the leader", []string{"create"}, "discovery.k8s.io", "endpointslices"),
			named(rule("nodes find the leader", []string{"get", "update", "delete"}, "discovery.k8s.io", "endpointslices"), Controller),
			rule("an issuer is made where there is none", []string{"create"}, "", "secrets"),
			named(rule("the issuer", read, "", "secrets"), issuerSecret),
			rule("the roots of an issuer that has none", []string{"create"}, "", "configmaps"),
			named(rule("the roots, which follow an issuer whose roots nobody else cares for", []string{"list", "watch", "update"},
				"", "configmaps"), rootsConfigMap),
			named(rule("the sign to leave", read, "", "configmaps"), LeaveConfigMap),
		},
	}
}

// TaintRule is what the controller needs beside ControllerRoles with --startup-taint, in the whole cluster.
func TaintRule() Rule {
	return rule("the start-up taint is taken off a node that is ready", []string{"get", "patch"}, "", "nodes")
}

// UninstallRoles are those of the Job that runs `controller uninstall`.
func UninstallRoles(issuerSecret, rootsConfigMap string) Roles {
	return Roles{
		Cluster: []Rule{
			rule("which nodes cannot be cleaned, because they are away", []string{"list"}, "", "nodes"),
		},
		Namespace: []Rule{
			rule("the sign to leave", []string{"create"}, "", "configmaps"),
			named(rule("the sign to leave, taken away at the end", []string{"delete"}, "", "configmaps"), LeaveConfigMap),
			named(rule("where the leader answers; taken away at the end", []string{"get", "delete"}, "discovery.k8s.io", "endpointslices"), Controller),
			rule("the DaemonSet that cleans the nodes", []string{"create"}, "apps", "daemonsets"),
			named(rule("the nodes' programs and what cleans up after them", []string{"get", "delete"}, "apps", "daemonsets"), Node, Cleanup),
			named(rule("the controller, before what it has made", []string{"get", "delete"}, "apps", "deployments"), Controller),
			rule("which nodes are not clean yet", []string{"list"}, "", "pods"),
			named(rule("the issuer, if the controller has made it", []string{"get", "delete"}, "", "secrets"), issuerSecret),
			named(rule("the roots, if the controller has made them", []string{"get", "delete"}, "", "configmaps"), rootsConfigMap),
			named(rule("one replica led", []string{"delete"}, "coordination.k8s.io", "leases"), Controller),
		},
	}
}

func rule(why string, verbs []string, group string, resources ...string) Rule {
	return Rule{PolicyRule: rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}, Why: why}
}

func named(r Rule, names ...string) Rule {
	r.ResourceNames = names
	return r
}
