package main

import (
	"strings"
	"testing"
)

const ended = `finished in 2.51s, 4980.12 req/s, 1.50MB/s
requests: 12500 total, 12500 started, 12500 done, 12500 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 12500 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.01MB (4208900) total, 1.64MB (1721400) headers (space savings 0.00%), 3.05MB (3200000) data
`

func TestParseH2load(t *testing.T) {
	failed := strings.NewReplacer("12500 succeeded, 0 failed", "12400 succeeded, 100 failed", "12500 2xx", "12400 2xx", "0 5xx", "100 5xx")
	unread := strings.NewReplacer("12500 succeeded, 0 failed", "0 succeeded, 12500 failed", "12500 2xx", "0 2xx")
	refused := strings.NewReplacer("12500 succeeded, 0 failed", "0 succeeded, 12500 failed", "12500 2xx", "0 2xx", "0 5xx", "12500 5xx")
	errored := strings.NewReplacer("12500 done, 12500 succeeded, 0 failed, 0 errored", "12490 done, 12490 succeeded, 10 failed, 10 errored", "12500 2xx", "12490 2xx")
	late := strings.NewReplacer("12500 done, 12500 succeeded, 0 failed, 0 errored, 0 timeout", "10 done, 0 succeeded, 10 failed, 0 errored, 10 timeout", "12500 2xx", "0 2xx")
	for name, tc := range map[string]struct {
		out  string
		want result
	}{
		"all succeeded":        {ended, result{succeeded: 12500, rps: 4980.12, body: 3200000}},
		"some failed":          {failed.Replace(ended), result{succeeded: 12400, failed: 100, rps: 4980.12, body: 3200000}},
		"no reason phrase":     {unread.Replace(ended), result{succeeded: 12500, rps: 4980.12, body: 3200000}},
		"all were refused":     {refused.Replace(ended), result{failed: 12500, rps: 4980.12, body: 3200000}},
		"errors are failures":  {errored.Replace(ended), result{succeeded: 12490, failed: 20, rps: 4980.12, body: 3200000}},
		"timeouts are as well": {late.Replace(ended), result{failed: 20, rps: 4980.12, body: 3200000}},
	} {
		if got, err := parseH2load(tc.out); err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.want)
		}
	}
	for cut := range strings.SplitSeq(ended, "\n") {
		if cut == "" {
			continue
		}
		if r, err := parseH2load(strings.Replace(ended, cut, "", 1)); err == nil {
			t.Errorf("without %q: %+v", cut, r)
		}
	}
}

func TestSumSeries(t *testing.T) {
	text := `# TYPE fairlead_requests_total counter
fairlead_requests_total{direction="outbound",tls="mtls",route="/a}b"} 3
fairlead_requests_total{direction="outbound",tls="mtls"} 4e+06
fairlead_requests_total{direction="outbound",tls="none"} 5
fairlead_requests_total{direction="inbound",tls="mtls"} 6
fairlead_requests_total_created{direction="outbound",tls="mtls"} 7
`
	if got, err := sumSeries(text, "fairlead_requests_total", `direction="outbound"`, `tls="mtls"`); err != nil || got != 4000003 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := sumSeries("a{} b\n", "a"); err == nil {
		t.Error("b was taken for a number")
	}
}
