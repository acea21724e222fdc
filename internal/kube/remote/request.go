package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxAnswer bounds one answer: 500 large pods, or the metrics of a node with every series that it may have.
const maxAnswer = 64 << 20

// request is one call of the API server.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	content      string // of the body
	timeout      time.Duration
}

// Answer is what came back.
type Answer struct {
	Body []byte
	Date time.Time // by the clock of who answered; zero if it did not say
}

// HTTPError is an answer that is no success, of somebody who is not the API server: a proxy or the controller.
type HTTPError struct {
	Status int
	Text   string
}

func (e *HTTPError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%d: %s", e.Status, e.Text)
}

// do makes the request. An answer of the API server that is no success is an error of apimachinery's kind.
func (c *Client) do(ctx context.Context, r request) (*Answer, error) {
	if r.timeout <= 0 {
		r.timeout = c.timeout
	}
	select { // its time begins when it is its turn
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	u := *c.base
	u.Path = strings.TrimSuffix(u.Path, "/") + r.path
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/plain;q=0.9, */*;q=0.1")
	if r.content != "" {
		req.Header.Set("Content-Type", r.content)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the path says nothing to whom the server does not answer
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)
	}
	date, _ := http.ParseTime(resp.Header.Get("Date"))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return &Answer{Body: body, Date: date}, nil
	}
	return nil, failure(resp.StatusCode, body)
}

// failure reads an answer that is no success.
func failure(status int, body []byte) error {
	var s metav1.Status
	if json.Unmarshal(body, &s) == nil && s.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: s}
	}
	text := strings.TrimSpace(string(body))
	if len(text) > 300 {
		text = text[:300] + "..."
	}
	return &HTTPError{Status: status, Text: text}
}

// decode makes the request and reads the answer into what.
func (c *Client) decode(ctx context.Context, r request, what any) error {
	a, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, what); err != nil {
		return fmt.Errorf("read the answer to %s %s: %w", r.method, r.path, err)
	}
	return nil
}

// IsAlreadyExists is true if an object of that name is there.
func IsAlreadyExists(err error) bool { return apierrors.IsAlreadyExists(err) }

// IsNotFound is true if there is no such object.
func IsNotFound(err error) bool { return apierrors.IsNotFound(err) }

// IsForbidden is true if the user may not do that, or is nobody that the server knows.
func IsForbidden(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }
