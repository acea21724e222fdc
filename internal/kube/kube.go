// Package kube is the controller's side of a Kubernetes cluster: its objects for the compiler, who leads, who a
// token is of, the issuer and the roots, and the way out. It is the only client of the API server.
//
// Promises:
//  1. Nothing is told to a World before every kind has been read once, and from then on a change of the cluster is
//     in the World some 20 ms after the API server has told it, however many come at once (Feed).
//  2. What is kept of an object is what is compiled of it (slim); nothing is kept twice.
//  3. At most one replica leads: it stops within Election.Renew after it could last renew its lease, which others
//     wait Election.Duration for.
//  4. A token is believed only if the API server vouches for it, for us, and for the pod and the node that it is
//     bound to; every other is refused with a cause that is counted (Reviewer).
//  5. What is made for want of something (issuer, roots) is never made over what somebody else has made.
//  6. Every request is allowed by the roles of rbac.go, and every request but a watch has a deadline.
package kube

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

var logOnce sync.Once

// requestTimeout is the deadline of a single request; a list of everything may take longer.
const (
	requestTimeout = 10 * time.Second
	listTimeout    = 2 * time.Minute
)

// Connect makes a client of the cluster that a kubeconfig names, or of the one that this process runs in. It makes
// no request.
func Connect(kubeconfig, userAgent string, log *slog.Logger) (kubernetes.Interface, error) {
	logOnce.Do(func() { klog.SetSlogLogger(log) }) // of a process: client-go has no other way to be told
	cfg, err := clientConfig(kubeconfig, userAgent)
	if err != nil {
		return nil, err
	}
	cfg.AcceptContentTypes, cfg.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	return client, nil
}

// ConnectCustom makes a client for kinds that the cluster has by a CustomResourceDefinition. It makes no request.
func ConnectCustom(kubeconfig, userAgent string) (dynamic.Interface, error) {
	cfg, err := clientConfig(kubeconfig, userAgent)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client of the cluster: %w", err)
	}
	return client, nil
}

func clientConfig(kubeconfig, userAgent string) (*rest.Config, error) {
	cfg, err := clusterConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = userAgent
	cfg.QPS, cfg.Burst = 50, 100
	cfg.Dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	return cfg, nil
}

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("find the cluster that this runs in (outside of one, --kubeconfig is needed): %w", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return cfg, nil
}
