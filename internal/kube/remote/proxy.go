package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Pod is a place where one of our programs answers.
type Pod struct {
	Namespace, Name string
	Port            int
}

// proxyTimeout is how long a pod may take to answer: a proxy's scrape waits a second for its keeper.
const proxyTimeout = 10 * time.Second

// Ask reads a path of a pod through the API server. An answer of the pod that is no success is an *HTTPError.
func (c *Client) Ask(ctx context.Context, p Pod, path string, query url.Values) (*Answer, error) {
	a, err := c.do(ctx, request{
		method:  http.MethodGet,
		path:    fmt.Sprintf("/api/v1/namespaces/%s/pods/http:%s:%d/proxy%s", url.PathEscape(p.Namespace), url.PathEscape(p.Name), p.Port, path),
		query:   query,
		timeout: min(proxyTimeout, c.timeout),
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no answer in time")
		}
		return nil, fmt.Errorf("ask pod %s for %s: %w", p.Name, path, err)
	}
	return a, nil
}
