package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// LabelNamespace sets a label of a namespace; an empty value takes it away.
func (c *Client) LabelNamespace(ctx context.Context, namespace, key, value string) error {
	var v any
	if value != "" {
		v = value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{key: v}}})
	if err != nil {
		return err
	}
	_, err = c.do(ctx, request{
		method: http.MethodPatch, path: placeOf(corev1.Namespace{}).path("", namespace), body: patch, content: "application/merge-patch+json",
		// whose change this is, in the object's managedFields
		query: url.Values{"fieldManager": {"fairlead"}},
	})
	if err != nil {
		return fmt.Errorf("label namespace %s: %w", namespace, err)
	}
	return nil
}

// DryRun has the API server look at a new object, and does not make it.
func (c *Client) DryRun(ctx context.Context, o *unstructured.Unstructured) error {
	return c.create(ctx, o, url.Values{"dryRun": {"All"}})
}

// Create makes an object.
func (c *Client) Create(ctx context.Context, o *unstructured.Unstructured) error {
	return c.create(ctx, o, url.Values{})
}

func (c *Client) create(ctx context.Context, o *unstructured.Unstructured, query url.Values) error {
	body, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	query.Set("fieldManager", "fairlead")
	_, err = c.do(ctx, request{method: http.MethodPost, path: pathOf(o, ""), body: body, content: "application/json", query: query})
	if err != nil {
		return fmt.Errorf("create %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
	return nil
}

// Delete deletes an object and what it owns. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, o *unstructured.Unstructured) error {
	query := url.Values{"propagationPolicy": {"Background"}}
	_, err := c.do(ctx, request{method: http.MethodDelete, path: pathOf(o, o.GetName()), query: query})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("delete %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
	return nil
}

// Exists tells whether an object of that name is there.
func (c *Client) Exists(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	_, err := c.do(ctx, request{method: http.MethodGet, path: pathOf(o, o.GetName())})
	if IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
	return true, nil
}

// Read gives what is there of an object of this kind, namespace and name.
func (c *Client) Read(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	now := &unstructured.Unstructured{}
	if err := c.decode(ctx, request{method: http.MethodGet, path: pathOf(o, o.GetName())}, &now.Object); err != nil {
		return nil, fmt.Errorf("get %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
	return now, nil
}

// pathOf is the path of an object of any kind. Kinds whose plural cannot be guessed are not among ours.
func pathOf(o *unstructured.Unstructured, name string) string {
	gvk := o.GroupVersionKind()
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	prefix := "/apis/" + gvk.Group + "/" + gvk.Version
	if gvk.Group == "" {
		prefix = "/api/" + gvk.Version
	}
	return place{prefix, plural.Resource}.path(o.GetNamespace(), name)
}
