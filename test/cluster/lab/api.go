package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// api reads from the API server as the administrator, by the port of 127.0.0.1 that everybody on this machine uses.
type api struct {
	client *http.Client
	url    string
}

func (l *Lab) api() (*api, error) {
	cert, err := tls.LoadX509KeyPair(l.path("pki", admin+".crt"), l.path("pki", admin+".key"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(l.path("pki", authority+".crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate of the authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}}
	return &api{client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		url: fmt.Sprintf("https://127.0.0.1:%d", l.Cluster.Port)}, nil
}

// get reads an object into v, unless v is nil.
func (a *api) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return statusError(resp, body)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(body, v)
}
