package lab

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func serve(t *testing.T, answers map[string]string) *api {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.Error(w, "not there", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(server.Close)
	return &api{client: server.Client(), url: server.URL}
}

func TestNodeReady(t *testing.T) {
	const at = `"lastHeartbeatTime": "2026-01-01T12:00:00Z"`
	a := serve(t, map[string]string{
		"/api/v1/nodes/n1": `{"status": {"conditions": [{"type": "Ready", "status": "True", ` + at + `}]}}`,
		"/api/v1/nodes/n2": `{"status": {"conditions": [{"type": "Ready", "status": "False", "message": "no network", ` + at + `}]}}`,
		"/api/v1/nodes/n3": `{"status": {"conditions": [{"type": "DiskPressure", "status": "True", ` + at + `}]}}`,
	})
	report := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		since time.Time
		want  string
	}{
		{"n1", time.Time{}, ""},
		{"n1", report.Add(900 * time.Millisecond), ""}, // the report's time is cut to seconds
		{"n1", report.Add(time.Second), "its kubelet has not reported"},
		{"n2", report, "no network"},
		{"n3", report, "its kubelet has not reported"},
		{"n4", report, "404 Not Found: not there"},
	} {
		got := ""
		if err := a.nodeReady(t.Context(), test.name, test.since); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s since %s: %q, want %q", test.name, test.since, got, test.want)
		}
	}
}

func TestAvailable(t *testing.T) {
	const path = "/apis/apps/v1/namespaces/kube-system/deployments/"
	a := serve(t, map[string]string{
		path + "good":    `{"spec": {"replicas": 2}, "status": {"updatedReplicas": 2, "availableReplicas": 2}}`,
		path + "half":    `{"spec": {"replicas": 2}, "status": {"updatedReplicas": 2, "availableReplicas": 1}}`,
		path + "old":     `{"spec": {"replicas": 2}, "status": {"updatedReplicas": 1, "availableReplicas": 2}}`,
		path + "nothing": `{"spec": {"replicas": 2}}`,
	})
	for name, want := range map[string]bool{"good": true, "half": false, "old": false, "nothing": false, "absent": false} {
		if err := a.available(t.Context(), "kube-system", name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
