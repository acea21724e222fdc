package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scrapeConfig goes through the API server, so that a Prometheus outside the cluster reaches the pods. Debian's server has no
// discovery in Kubernetes: the targets come from a file, written from the pods' annotations as discovery would.
const scrapeConfig = `
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [%[2]q]
scrape_configs:
  - job_name: pods
    file_sd_configs: [{files: [%[1]q]}]
    scheme: https
    tls_config: {ca_file: %[3]q, cert_file: %[4]q, key_file: %[5]q}
    relabel_configs:
      - {source_labels: [pod], target_label: instance}
`

// target is an entry of Prometheus' file_sd format.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// annotated are the pods of all namespaces whose annotations ask to be scraped.
func annotated(t testing.TB, api string) (out []target) {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name, Namespace     string
				Annotations, Labels map[string]string
			}
			Spec   struct{ NodeName string }
			Status struct{ Phase string }
		}
	}
	lab.get(t, &list, "pods", "-A")
	for _, p := range list.Items {
		a := p.Metadata.Annotations
		if a["prometheus.io/scrape"] != "true" || p.Status.Phase != "Running" {
			continue
		}
		out = append(out, target{[]string{api}, map[string]string{
			"__metrics_path__": fmt.Sprintf("/api/v1/namespaces/%s/pods/http:%s:%s/proxy%s", p.Metadata.Namespace, p.Metadata.Name, a["prometheus.io/port"], a["prometheus.io/path"]),
			"pod":              p.Metadata.Name, "node": p.Spec.NodeName, "component": p.Metadata.Labels["app.kubernetes.io/component"],
		}})
	}
	return out
}

// prometheus is a real Prometheus server, on this machine, that scrapes the cluster.
type prometheus struct{ address string }

func startPrometheus(t testing.TB) *prometheus {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("prometheus is not installed")
	}
	dir := t.TempDir()
	address, files := credentials(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs("../../deploy/daemonset/rules")
	if err != nil {
		t.Fatal(err)
	}
	targets, err := json.Marshal(annotated(t, address))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets.json"), targets, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(scrapeConfig, filepath.Join(dir, "targets.json"), rules+"/*.yaml", files[0], files[1], files[2])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+p.address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("prometheus says:\n%.4000s", text)
		}
	})
	return p
}

// credentials writes what the kubeconfig holds of certificates into files: the API server's address, CA, certificate, key.
func credentials(t testing.TB, dir string) (address string, files []string) {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	text := lab.kubectl(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
	if err := json.Unmarshal([]byte(text), &config); err != nil || len(config.Clusters) == 0 || len(config.Users) == 0 {
		t.Fatalf("parse kubeconfig: %v", err)
	}
	u, err := url.Parse(config.Clusters[0].Cluster.Server)
	if err != nil {
		t.Fatal(err)
	}
	for name, pem := range map[string][]byte{"ca": config.Clusters[0].Cluster.CA, "cert": config.Users[0].User.Cert, "key": config.Users[0].User.Key} {
		if len(pem) == 0 {
			t.Fatalf("the kubeconfig has no %s: its user must have a client certificate", name)
		}
		if err := os.WriteFile(filepath.Join(dir, name), pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u.Host, []string{dir + "/ca", dir + "/cert", dir + "/key"}
}

// query asks for an instant vector.
func (p *prometheus) query(ctx context.Context, promQL string) ([]sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/api/v1/query?query="+url.QueryEscape(promQL), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	var out []sample
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, sample{r.Metric, v})
	}
	return out, nil
}

// testPrometheus: a real server finds the nodes by the annotations, and its answers are the vote application's truth.
func testPrometheus(t *testing.T) {
	p := startPrometheus(t)
	before := bot(t)
	eventually(t, 60*time.Second, "a scrape of every node and of the controller", func() error {
		up, err := p.query(t.Context(), `up{job="pods"} == 1`)
		if err == nil && len(up) != len(lab.nodes)+1 {
			err = fmt.Errorf("up: %v", up)
		}
		return err
	})
	time.Sleep(30 * time.Second) // the time that is asked about
	now := bot(t)
	truth := 1 - float64(now.Failed["doughnut"]-before.Failed["doughnut"])/float64(now.Total-before.Total)
	const window = "30s"
	ask := func(what, promQL string) float64 {
		t.Helper()
		out, err := p.query(t.Context(), promQL)
		if err != nil || len(out) != 1 {
			t.Fatalf("%s: %v, %v\n%s", what, out, err, promQL)
		}
		t.Logf("%s: %.4f", what, out[0].value)
		return out[0].value
	}
	front := `direction="inbound",dst_namespace="vote",dst_workload="front"`
	success := ask("success rate of the front", `sum(rate(fairlead_requests_total{`+front+`,status!="5xx"}[`+window+`])) / sum(rate(fairlead_requests_total{`+front+`}[`+window+`]))`)
	if success < truth-0.03 || success > truth+0.03 || success > 0.995 {
		t.Errorf("success rate of the front is %.3f, the bot's is %.3f", success, truth)
	}
	rate := ask("requests per second to the front", `sum(rate(fairlead_requests_total{`+front+`}[`+window+`]))`)
	if rate < 5 || rate > 15 {
		t.Errorf("%.1f requests per second, the bot makes 10", rate)
	}
	if p99 := ask("p99 of the front", `histogram_quantile(0.99, sum by (le) (rate(fairlead_request_duration_seconds_bucket{`+front+`}[`+window+`])))`); p99 <= 0 || p99 > 1 {
		t.Errorf("p99 is %v", p99)
	}
	failing, err := p.query(t.Context(), `topk(1, sum by (dst_workload) (rate(fairlead_requests_total{direction="inbound",dst_namespace="vote",grpc_status!="",grpc_status!="OK"}[`+window+`])))`)
	if err != nil || len(failing) != 1 || failing[0].labels["dst_workload"] != "ballot" {
		t.Errorf("the failing gRPC service is %v (%v), want ballot", failing, err)
	}
	share, err := p.query(t.Context(), `sum by (dst_workload) (rate(fairlead_requests_total{direction="inbound",dst_namespace="vote",dst_workload=~"ballot|catalog",grpc_status="OK"}[`+window+`])) / sum by (dst_workload) (rate(fairlead_requests_total{direction="inbound",dst_namespace="vote",dst_workload=~"ballot|catalog"}[`+window+`]))`)
	if err != nil || len(share) != 2 {
		t.Fatalf("success by workload: %v, %v", share, err)
	}
	for _, s := range share {
		t.Logf("success of %s: %.4f", s.labels["dst_workload"], s.value)
		if catalog := s.labels["dst_workload"] == "catalog"; catalog && s.value != 1 || !catalog && s.value > 0.98 {
			t.Errorf("success of %s is %.4f: the catalog has no fault, the ballot has one", s.labels["dst_workload"], s.value)
		}
	}
	if mtls := ask("share of mutual TLS", `sum(rate(fairlead_requests_total{direction="inbound",dst_namespace="vote",tls="mtls"}[`+window+`])) / sum(rate(fairlead_requests_total{direction="inbound",dst_namespace="vote"}[`+window+`]))`); mtls != 1 {
		t.Errorf("%.3f of the requests within the namespace came over mutual TLS", mtls)
	}
	if firing, err := p.query(t.Context(), `ALERTS{alertstate="firing"}`); err != nil || len(firing) > 0 {
		t.Errorf("alerts on a sound mesh: %v, %v", firing, err)
	}
	t.Run("promtool", testPromtool)
}

// testPromtool: the metrics of every component are as Prometheus wants them.
func testPromtool(t *testing.T) {
	ask := func(pod string, port int) {
		text, err := admin(t, pod, port, "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
		cmd.Stdin = strings.NewReader(text + "\n")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics of %s: %v\n%s", pod, err, out)
		}
	}
	for _, pods := range component(t, "node") {
		ask(pods[0], 9901)
	}
	for _, pods := range component(t, "controller") {
		ask(pods[0], 9903)
	}
}
