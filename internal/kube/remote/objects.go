package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"

	"fairlead.io/fairlead/api/v1alpha1"
)

// place is where the API server keeps the objects of a kind.
type place struct{ prefix, resource string }

// placeOf is the place of a type. A type that is not here is a mistake of ours.
func placeOf(object any) place {
	switch object.(type) {
	case corev1.Namespace:
		return place{"/api/v1", "namespaces"}
	case corev1.Node:
		return place{"/api/v1", "nodes"}
	case corev1.Pod:
		return place{"/api/v1", "pods"}
	case corev1.Service:
		return place{"/api/v1", "services"}
	case corev1.Secret:
		return place{"/api/v1", "secrets"}
	case corev1.ConfigMap:
		return place{"/api/v1", "configmaps"}
	case corev1.Event:
		return place{"/api/v1", "events"}
	case appsv1.Deployment:
		return place{"/apis/apps/v1", "deployments"}
	case appsv1.DaemonSet:
		return place{"/apis/apps/v1", "daemonsets"}
	case appsv1.StatefulSet:
		return place{"/apis/apps/v1", "statefulsets"}
	case batchv1.Job:
		return place{"/apis/batch/v1", "jobs"}
	case batchv1.CronJob:
		return place{"/apis/batch/v1", "cronjobs"}
	case coordinationv1.Lease:
		return place{"/apis/coordination.k8s.io/v1", "leases"}
	case discoveryv1.EndpointSlice:
		return place{"/apis/discovery.k8s.io/v1", "endpointslices"}
	case rbacv1.ClusterRole:
		return place{"/apis/rbac.authorization.k8s.io/v1", "clusterroles"}
	case v1alpha1.TrafficPolicy:
		return place{"/apis/fairlead.io/v1alpha1", "trafficpolicies"}
	case rbacv1.Role:
		return place{"/apis/rbac.authorization.k8s.io/v1", "roles"}
	}
	panic(fmt.Sprintf("no place is known for %T", object))
}

// path of one object, or of all without a name; of all namespaces without a namespace.
func (p place) path(namespace, name string) string {
	path := p.prefix
	if namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	path += "/" + p.resource
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// Get reads one object. The namespace is empty for what has none.
func Get[T any](ctx context.Context, c *Client, namespace, name string) (*T, error) {
	object := new(T)
	p := placeOf(*object)
	if err := c.decode(ctx, request{method: http.MethodGet, path: p.path(namespace, name)}, object); err != nil {
		return nil, fmt.Errorf("get %s %s: %w", p.resource, join(namespace, name), err)
	}
	return object, nil
}

// Query narrows a list. The zero value is everything in all namespaces.
type Query struct {
	Namespace string
	Labels    string // selector
	Fields    string // selector
}

// page is how many objects are asked for at a time.
const page = 500

// List reads the objects of a kind, page by page.
func List[T any](ctx context.Context, c *Client, q Query) ([]T, error) {
	p := placeOf(*new(T))
	query := url.Values{"limit": {strconv.Itoa(page)}}
	if q.Labels != "" {
		query.Set("labelSelector", q.Labels)
	}
	if q.Fields != "" {
		query.Set("fieldSelector", q.Fields)
	}
	var all []T
	for {
		var list struct {
			Metadata metav1.ListMeta `json:"metadata"`
			Items    []T             `json:"items"`
		}
		if err := c.decode(ctx, request{method: http.MethodGet, path: p.path(q.Namespace, ""), query: query}, &list); err != nil {
			return nil, fmt.Errorf("list %s: %w", p.resource, err)
		}
		all = append(all, list.Items...)
		if list.Metadata.Continue == "" {
			return all, nil
		}
		query.Set("continue", list.Metadata.Continue)
	}
}

func join(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// Version asks the API server for its version, and by its clock for the time.
func (c *Client) Version(ctx context.Context) (*version.Info, time.Time, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/version"})
	if err != nil {
		return nil, time.Time{}, err
	}
	info := &version.Info{}
	if err := json.Unmarshal(a.Body, info); err != nil {
		return nil, time.Time{}, fmt.Errorf("read the version: %w", err)
	}
	return info, a.Date, nil
}
