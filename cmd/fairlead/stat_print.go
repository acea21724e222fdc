package main

import (
	"fmt"
	"io"
)

// statJSON is a row for other programs. What is not known is null.
type statJSON struct {
	Kind      kind     `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	Meshed    int      `json:"meshed"`
	Pods      int      `json:"pods"`
	Window    float64  `json:"windowSeconds"`
	Requests  float64  `json:"requests"`
	Failures  float64  `json:"failures"`
	Success   *float64 `json:"success"`
	RPS       *float64 `json:"rps"`
	P50       *float64 `json:"latencyP50Seconds"`
	P95       *float64 `json:"latencyP95Seconds"`
	P99       *float64 `json:"latencyP99Seconds"`
	Open      float64  `json:"tcpOpen"`
	Opened    float64  `json:"tcpOpened"`
	Received  float64  `json:"receivedBytes"`
	Sent      float64  `json:"sentBytes"`
}

func (t *tool) printStat(k kind, rows []statRow) error {
	if t.format == "json" {
		all := []statJSON{}
		for _, r := range rows {
			c := r.counts
			all = append(all, statJSON{k, r.name.Namespace, r.name.Name, r.meshed, r.pods, c.Elapsed.Seconds(), c.Requests, c.Failures,
				number(c.Success()), number(c.RPS()), number(c.Quantile(.5)), number(c.Quantile(.95)), number(c.Quantile(.99)),
				c.Open, c.Opened, c.Received, c.Sent})
		}
		return printJSON(t.out, all)
	}
	if len(rows) == 0 {
		fmt.Fprintf(t.err, "there is no %s to show; -A looks at all namespaces\n", k)
		return nil
	}
	printStatTable(t.out, rows, t.format == "wide", t.all && k != aNamespace)
	return nil
}

func printStatTable(w io.Writer, rows []statRow, wide, namespaces bool) {
	heads := []string{"NAME", ">MESHED", ">SUCCESS", ">RPS", ">LATENCY_P50", ">LATENCY_P95", ">LATENCY_P99", ">TCP_CONN"}
	if wide {
		heads = append(heads, ">REQUESTS", ">FAILURES", ">TCP_OPENED", ">RECEIVED", ">SENT")
	}
	if namespaces {
		heads = append([]string{"NAMESPACE"}, heads...)
	}
	table := newTable(heads...)
	for _, r := range rows {
		c := r.counts
		cells := []string{r.name.Name, fmt.Sprintf("%d/%d", r.meshed, r.pods), percent(c.Success()), rate(c.RPS()),
			seconds(c.Quantile(.5)), seconds(c.Quantile(.95)), seconds(c.Quantile(.99)), whole(c.Open)}
		if wide {
			cells = append(cells, whole(c.Requests), whole(c.Failures), whole(c.Opened), bytes(c.Received), bytes(c.Sent))
		}
		if namespaces {
			cells = append([]string{r.name.Namespace}, cells...)
		}
		table.row(cells...)
	}
	table.print(w)
}
