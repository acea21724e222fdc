package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Access is something that somebody may do or not.
type Access = authorizationv1.ResourceAttributes

// CanI asks whether the user of the kubeconfig may do that.
func (c *Client) CanI(ctx context.Context, a Access) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"},
		Spec:     authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a},
	}
	if err := c.review(ctx, "selfsubjectaccessreviews", review); err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// CanAccount asks whether a service account may do that. The user of the kubeconfig must be allowed to ask.
func (c *Client) CanAccount(ctx context.Context, namespace, name string, a Access) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec: authorizationv1.SubjectAccessReviewSpec{
			ResourceAttributes: &a,
			User:               "system:serviceaccount:" + namespace + ":" + name,
			Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		},
	}
	if err := c.review(ctx, "subjectaccessreviews", review); err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// review posts a question, which nobody keeps, and reads the answer back into it.
func (c *Client) review(ctx context.Context, resource string, question any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	r := request{method: http.MethodPost, path: "/apis/authorization.k8s.io/v1/" + resource, body: body, content: "application/json"}
	if err := c.decode(ctx, r, question); err != nil {
		return fmt.Errorf("create %s: %w", resource, err)
	}
	return nil
}
