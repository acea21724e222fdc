package check

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// minMinor is the oldest Kubernetes: its tokens name the node of the pod that they are bound to, so that a keeper's
// token is worth nothing on another node.
const minMinor = 30

func kubernetesGroup() Group {
	return Group{"kubernetes", []Check{
		{ID: "api", About: "the API server answers", Run: checkAPI, Needed: true},
		{ID: "kubernetes-version", About: fmt.Sprintf("Kubernetes is 1.%d or newer", minMinor), Run: checkVersion},
		{ID: "kubectl-version", About: "kubectl and the API server are at most one version apart", Run: checkKubectl},
	}}
}

func checkAPI(ctx context.Context, s *State) ([]Finding, error) {
	if _, err := s.serverFacts(ctx); err != nil {
		return []Finding{failed("is this the right cluster? `kubectl config current-context` says which one it is, and `kubectl version` whether kubectl reaches it",
			"%s does not answer: %v", s.Server(), err)}, nil
	}
	return nil, nil
}

func checkVersion(ctx context.Context, s *State) ([]Finding, error) {
	f, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	major, minor, err := versionOf(f.version.GitVersion)
	if err != nil {
		return nil, err
	}
	if major == 1 && minor < minMinor {
		return []Finding{failed(fmt.Sprintf("update the cluster to Kubernetes 1.%d or newer", minMinor),
			"the API server is %s", f.version.GitVersion)}, nil
	}
	return nil, nil
}

func checkKubectl(ctx context.Context, s *State) ([]Finding, error) {
	if s.Kubectl == nil {
		return nil, skip("not asked for")
	}
	kubectl := s.Kubectl(ctx)
	if kubectl == "" {
		return nil, skip("there is no kubectl in $PATH, and this tool needs none")
	}
	f, err := s.serverFacts(ctx)
	if err != nil {
		return nil, err
	}
	_, own, err := versionOf(kubectl)
	if err != nil {
		return nil, err
	}
	_, minor, err := versionOf(f.version.GitVersion)
	if err != nil {
		return nil, err
	}
	if own < minor-1 || own > minor+1 {
		return []Finding{warned(fmt.Sprintf("install kubectl 1.%d", minor), "kubectl is %s, the API server is %s", kubectl, f.version.GitVersion)}, nil
	}
	return nil, nil
}

// versionOf reads the first two numbers of a version such as v1.33.1+k3s1.
func versionOf(text string) (major, minor int, err error) {
	parts := strings.SplitN(strings.TrimPrefix(text, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, fmt.Errorf("version %q is not one", text)
	}
	digits := strings.TrimRightFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	if major, err = strconv.Atoi(parts[0]); err == nil {
		minor, err = strconv.Atoi(digits)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("version %q is not one", text)
	}
	return major, minor, nil
}
