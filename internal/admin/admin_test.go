package admin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReadyNamesWhatIsPending(t *testing.T) {
	var ready Ready
	a, b := ready.Await("keeper"), ready.Await("address table")
	srv := httptest.NewServer(Handler(&ready, prometheus.NewRegistry(), nil))
	defer srv.Close()
	expect := func(status int, body string) {
		t.Helper()
		resp, err := http.Get(srv.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || string(got) != body {
			t.Errorf("readyz = %d %q, want %d %q", resp.StatusCode, got, status, body)
		}
	}
	expect(503, "waiting for address table, keeper\n")
	b()
	expect(503, "waiting for keeper\n")
	a()
	a()
	expect(200, "ready\n")
	attached := true
	ready.Watch("keeper", func() bool { return attached })
	expect(200, "ready\n")
	attached = false // it may go again
	expect(503, "waiting for keeper\n")
}
