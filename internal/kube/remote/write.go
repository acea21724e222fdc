package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
		method: http.MethodPatch, path: "/api/v1/namespaces/" + namespace, body: patch, content: "application/merge-patch+json",
		// whose change this is, in the object's managedFields
		query: map[string][]string{"fieldManager": {"fairlead"}},
	})
	if err != nil {
		return fmt.Errorf("label namespace %s: %w", namespace, err)
	}
	return nil
}
