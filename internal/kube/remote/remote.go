// Package remote is the command line tool's side of Kubernetes: what it reads from the API server, and through it
// from the nodes' proxies and the controller.
//
// Promises:
//  1. A kubeconfig is all that it needs: proxies and controller are reached through the API server's pod proxy.
//  2. It reads. What changes anything stands in write.go.
//  3. Every request has a deadline, every answer a greatest size, and at most a few requests are under way at a time.
//  4. An error says what was asked for, and what the server said.
package remote

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Options say which cluster, and as whom. The zero value is what kubectl would take.
type Options struct {
	Kubeconfig string // file; else $KUBECONFIG, else ~/.kube/config, else the pod's own account
	Context    string
	Namespace  string   // instead of the context's
	As         string   // user to act as
	AsGroups   []string // and its groups
	Timeout    time.Duration
	UserAgent  string
}

const (
	// requestTimeout is how long one request may take, where the caller says nothing.
	requestTimeout = 15 * time.Second
	// atOnce bounds the requests under way: the tool is a guest of the API server.
	atOnce = 16
)

// Client speaks to one cluster. It is safe for concurrent use.
type Client struct {
	http      *http.Client
	base      *url.URL
	namespace string
	timeout   time.Duration
	slots     chan struct{}
}

// Connect reads the configuration. It speaks to nobody yet.
func Connect(o Options) (*Client, error) {
	cfg := o.config()
	namespace, _, err := cfg.Namespace()
	if err != nil {
		return nil, explain(err)
	}
	rc, err := cfg.ClientConfig()
	if err != nil {
		return nil, explain(err)
	}
	rc.UserAgent = o.UserAgent
	if len(o.AsGroups) > 0 {
		rc.Impersonate.Groups = o.AsGroups
	}
	hc, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, fmt.Errorf("set up the connection to the API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(rc)
	if err != nil {
		return nil, fmt.Errorf("read the API server's address: %w", err)
	}
	c := &Client{http: hc, base: base, namespace: namespace, timeout: o.Timeout, slots: make(chan struct{}, atOnce)}
	if c.timeout <= 0 {
		c.timeout = requestTimeout
	}
	return c, nil
}

func (o Options) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	over.Context.Namespace = o.Namespace
	over.AuthInfo.Impersonate = o.As
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over)
}

// ErrNoCluster is returned by Connect if nothing says which cluster is meant.
var ErrNoCluster = errors.New("no cluster is configured: set KUBECONFIG, or give --kubeconfig or --context")

func explain(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return ErrNoCluster
	}
	return fmt.Errorf("read kubeconfig: %w", err)
}

// Contexts names the contexts of the kubeconfig, for completion.
func Contexts(o Options) ([]string, error) {
	raw, err := o.config().RawConfig()
	if err != nil {
		return nil, explain(err)
	}
	return names(raw.Contexts), nil
}

func names(contexts map[string]*clientcmdapi.Context) []string {
	all := make([]string, 0, len(contexts))
	for name := range contexts {
		all = append(all, name)
	}
	return all
}

// Namespace is the namespace of the kubeconfig's context, or the one that was given.
func (c *Client) Namespace() string { return c.namespace }

// Server is the address of the API server.
func (c *Client) Server() string { return c.base.String() }
