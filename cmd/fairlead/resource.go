package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/traffic"
)

// kind is a kind of thing that is looked at.
type kind string

const (
	aNamespace kind = "namespace"
	aWorkload  kind = "workload" // of any kind
	aDeploy    kind = "deployment"
	aStateful  kind = "statefulset"
	aDaemonSet kind = "daemonset"
	aJob       kind = "job"
	aCronJob   kind = "cronjob"
	aPod       kind = "pod"
	aService   kind = "service"
	aRoute     kind = "route"
)

// kinds are the words for each, the first one being its name in tables.
var kinds = map[kind][]string{
	aNamespace: {"namespace", "namespaces", "ns"},
	aWorkload:  {"workload", "workloads", "wl", "all"},
	aDeploy:    {"deployment", "deployments", "deploy", "deploys"},
	aStateful:  {"statefulset", "statefulsets", "sts"},
	aDaemonSet: {"daemonset", "daemonsets", "ds"},
	aJob:       {"job", "jobs"},
	aCronJob:   {"cronjob", "cronjobs", "cj"},
	aPod:       {"pod", "pods", "po"},
	aService:   {"service", "services", "svc"},
	aRoute:     {"route", "routes"},
}

// resource is what a command is asked about.
type resource struct {
	kind kind
	name string // "" for all
}

// parseResource reads "deploy", "deploy web" or "deploy/web". Only the kinds that are given are known.
func parseResource(args []string, known ...kind) (resource, error) {
	word := args[0]
	name := ""
	if len(args) > 1 {
		name = args[1]
	}
	if before, after, ok := strings.Cut(word, "/"); ok {
		if name != "" {
			return resource{}, fmt.Errorf("%s %s: one name is enough", word, name)
		}
		word, name = before, after
	}
	for _, k := range known {
		if slices.Contains(kinds[k], strings.ToLower(word)) {
			return resource{k, name}, nil
		}
	}
	var all []string
	for _, k := range known {
		all = append(all, string(k))
	}
	return resource{}, fmt.Errorf("%q is none of: %s", word, strings.Join(all, ", "))
}

// ownerKind is the kind of workload that a pod belongs to.
func ownerKind(p *corev1.Pod) kind {
	o := metav1.GetControllerOf(p)
	if o == nil {
		return aPod
	}
	switch o.Kind {
	case "ReplicaSet":
		return aDeploy
	case "StatefulSet":
		return aStateful
	case "DaemonSet":
		return aDaemonSet
	case "Job":
		if compile.Workload(p) != o.Name {
			return aCronJob
		}
		return aJob
	}
	return aWorkload
}

// workloadOf is the pod's workload as metrics name it.
func workloadOf(p *corev1.Pod) mesh.Name {
	return mesh.Name{Namespace: p.Namespace, Name: compile.Workload(p)}
}

// parseEnd reads the end of a hop, "deploy/web", "svc/web" or "ns/shop", in a namespace unless it says another.
func parseEnd(text, namespace string) (traffic.End, error) {
	r, err := parseResource([]string{text}, aNamespace, aWorkload, aDeploy, aStateful, aDaemonSet, aJob, aCronJob, aService)
	if err != nil {
		return traffic.End{}, err
	}
	if r.name == "" {
		return traffic.End{}, fmt.Errorf("%q: a name is wanted, as in %s/NAME", text, text)
	}
	switch r.kind {
	case aNamespace:
		return traffic.End{Namespace: r.name}, nil
	case aService:
		return traffic.End{Namespace: namespace, Service: r.name}, nil
	}
	return traffic.End{Namespace: namespace, Workload: r.name}, nil
}
