package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Cause is why a token was refused.
type Cause string

// The causes.
const (
	TooLong          Cause = "too_long"          // no token is that long
	Busy             Cause = "busy"              // too many others are being looked at
	Unavailable      Cause = "unavailable"       // the API server did not answer, or not in time
	NotAuthenticated Cause = "not_authenticated" // it is none of this cluster, or has expired, or its pod is gone
	WrongAudience    Cause = "wrong_audience"    // it is made out to somebody else
	WrongAccount     Cause = "wrong_account"     // it is not the keepers'
	NotBound         Cause = "not_bound"         // it is bound to no pod, so it is of no node
	PodGone          Cause = "pod_gone"          // the pod that it is bound to is there no more
	WrongNode        Cause = "wrong_node"        // token and pod name different nodes
)

// Causes are all causes.
func Causes() []Cause {
	return []Cause{TooLong, Busy, Unavailable, NotAuthenticated, WrongAudience, WrongAccount, NotBound, PodGone, WrongNode}
}

// TokenError is why a token was refused.
type TokenError struct {
	Cause Cause
	Err   error
}

func (e *TokenError) Error() string { return fmt.Sprintf("token refused (%s): %v", e.Cause, e.Err) }

func (e *TokenError) Unwrap() error { return e.Err }

func refused(c Cause, format string, args ...any) *TokenError {
	return &TokenError{Cause: c, Err: fmt.Errorf(format, args...)}
}

// maxToken bounds a token; one of a service account has some 1,200 bytes.
const maxToken = 8 << 10

// What the API server says of a token beside its user.
const (
	claimPod     = "authentication.kubernetes.io/pod-name"
	claimPodUID  = "authentication.kubernetes.io/pod-uid"
	claimNode    = "authentication.kubernetes.io/node-name" // since Kubernetes 1.30
	accountGroup = "system:serviceaccount:"
)

// ReviewerConfig configures a Reviewer.
type ReviewerConfig struct {
	Client    kubernetes.Interface
	Namespace string
	Account   string // the keepers', in Namespace
	Audience  string
	// Concurrent is how many tokens are looked at at once, and Timeout how long one may take; 16 and 5 s.
	Concurrent int
	Timeout    time.Duration
}

// Reviewer tells which node a token of a keeper's pod stands for. It keeps no answer: who has lost its pod, or its
// token, is refused the next time.
type Reviewer struct {
	cfg     ReviewerConfig
	slots   chan struct{}
	results *prometheus.CounterVec
}

// NewReviewer makes a Reviewer.
func NewReviewer(cfg ReviewerConfig) *Reviewer {
	if cfg.Concurrent == 0 {
		cfg.Concurrent = 16
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	r := &Reviewer{cfg: cfg, slots: make(chan struct{}, cfg.Concurrent), results: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_controller_token_reviews_total", Help: "Tokens of keepers by result.",
	}, []string{"result"})}
	r.results.WithLabelValues("ok")
	for _, c := range Causes() {
		r.results.WithLabelValues(string(c))
	}
	return r
}

// Node is the node of a token. The error of a refusal is a *TokenError.
func (r *Reviewer) Node(ctx context.Context, token string) (string, error) {
	node, err := r.node(ctx, token)
	if err != nil {
		r.results.WithLabelValues(string(err.Cause)).Inc()
		return "", err
	}
	r.results.WithLabelValues("ok").Inc()
	return node, nil
}

func (r *Reviewer) node(ctx context.Context, token string) (string, *TokenError) {
	if len(token) > maxToken {
		return "", refused(TooLong, "%d bytes, at most %d are read", len(token), maxToken)
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return "", refused(Busy, "%d tokens are being looked at", r.cfg.Concurrent)
	}
	user, err := r.review(ctx, token)
	if err != nil {
		return "", err
	}
	return r.nodeOf(ctx, user)
}

// review asks the API server whose the token is, and makes sure that it is a keeper's.
func (r *Reviewer) review(ctx context.Context, token string) (*authv1.UserInfo, *TokenError) {
	review := &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{r.cfg.Audience}}}
	answer, err := r.cfg.Client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return nil, refused(Unavailable, "review token: %w", err)
	}
	switch {
	case !answer.Status.Authenticated && strings.Contains(answer.Status.Error, "audience"):
		return nil, refused(WrongAudience, "review token: %s", answer.Status.Error)
	case !answer.Status.Authenticated && answer.Status.Error != "":
		return nil, refused(NotAuthenticated, "review token: %s", answer.Status.Error)
	case !answer.Status.Authenticated:
		return nil, refused(NotAuthenticated, "review token: nobody's")
	case !slices.Contains(answer.Status.Audiences, r.cfg.Audience):
		return nil, refused(WrongAudience, "it is not for %s", r.cfg.Audience)
	case answer.Status.User.Username != accountGroup+r.cfg.Namespace+":"+r.cfg.Account:
		return nil, refused(WrongAccount, "it is of %.300q", answer.Status.User.Username)
	}
	return &answer.Status.User, nil
}

// nodeOf is the node of the pod that a token is bound to. The pod is asked for, because a token is good for a while
// after its pod is gone where the API server remembers its answers, and says nothing of a node before 1.30.
func (r *Reviewer) nodeOf(ctx context.Context, user *authv1.UserInfo) (string, *TokenError) {
	name, uid := claim(user, claimPod), claim(user, claimPodUID)
	if name == "" || uid == "" {
		return "", refused(NotBound, "it is bound to no pod")
	}
	pod, err := r.cfg.Client.CoreV1().Pods(r.cfg.Namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", refused(PodGone, "pod %s is gone", name)
	case err != nil:
		return "", refused(Unavailable, "read pod %s: %w", name, err)
	case string(pod.UID) != uid:
		return "", refused(PodGone, "pod %s is another one by now", name)
	case pod.Spec.ServiceAccountName != r.cfg.Account:
		return "", refused(WrongAccount, "pod %s is of account %s", name, pod.Spec.ServiceAccountName)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return "", refused(PodGone, "pod %s has ended", name)
	case pod.Spec.NodeName == "":
		return "", refused(WrongNode, "pod %s runs on no node", name)
	}
	if node := claim(user, claimNode); node != "" && node != pod.Spec.NodeName {
		return "", refused(WrongNode, "it is of node %s, and pod %s runs on %s", node, name, pod.Spec.NodeName)
	}
	return pod.Spec.NodeName, nil
}

// claim is what the API server says of a token; nothing if it does not say one thing.
func claim(user *authv1.UserInfo, name string) string {
	if values := user.Extra[name]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// CauseOf is why a token was refused, if the error is of one.
func CauseOf(err error) (Cause, bool) {
	var e *TokenError
	if errors.As(err, &e) {
		return e.Cause, true
	}
	return "", false
}

// Describe implements prometheus.Collector.
func (r *Reviewer) Describe(ch chan<- *prometheus.Desc) { r.results.Describe(ch) }

// Collect implements prometheus.Collector.
func (r *Reviewer) Collect(ch chan<- prometheus.Metric) { r.results.Collect(ch) }
