package node

import (
	"fmt"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// matchText is a match in words.
func matchText(m *mesh.Match) string {
	var parts []string
	if m.Method != "" {
		parts = append(parts, m.Method)
	}
	switch m.Path.Kind {
	case mesh.PathExact:
		parts = append(parts, "="+m.Path.Value)
	case mesh.PathPrefix:
		parts = append(parts, strings.TrimSuffix(m.Path.Value, "/")+"/*")
	case mesh.PathRegex:
		parts = append(parts, "~"+m.Path.Value)
	}
	parts = append(append(parts, fieldTexts(m.Headers, "")...), fieldTexts(m.Query, "?")...)
	if m.SNI != "" {
		parts = append(parts, "sni="+m.SNI)
	}
	if len(parts) == 0 {
		return "*"
	}
	return strings.Join(parts, " ")
}

func fieldTexts(fields []mesh.FieldMatch, before string) (texts []string) {
	for _, f := range fields {
		sign := "="
		if f.Regex {
			sign = "~"
		}
		texts = append(texts, before+f.Name+sign+f.Value)
	}
	return texts
}

// filterTexts are filters in words.
func filterTexts(f *mesh.Filters) (texts []string) {
	edit := func(of string, e *mesh.FieldEdit) {
		if e != nil {
			texts = append(texts, fmt.Sprintf("%s header fields: %d set, %d added, %d removed", of, len(e.Set), len(e.Add), len(e.Remove)))
		}
	}
	edit("request", f.Request)
	edit("response", f.Response)
	if r := f.Redirect; r != nil {
		texts = append(texts, strings.TrimSpace(fmt.Sprintf("redirect with %d %s%s", r.Status, r.Host, pathEditText(r.Path))))
	}
	if r := f.Rewrite; r != nil {
		texts = append(texts, strings.TrimSpace("rewrite to "+r.Host+pathEditText(r.Path)))
	}
	for i := range f.Mirrors {
		m := &f.Mirrors[i]
		texts = append(texts, fmt.Sprintf("%d of %d copied to %s:%d", m.Part, m.Of, m.Backend.Service, m.Backend.Port))
	}
	if f.CORS != nil {
		texts = append(texts, "CORS for "+strings.Join(f.CORS.Origins, ", "))
	}
	return texts
}

func pathEditText(e mesh.PathEdit) string {
	switch e.Kind {
	case mesh.PathFull:
		return " path " + e.Value
	case mesh.PathMatched:
		return " " + e.Value + " for what was matched"
	}
	return ""
}

// treatment is what policies say, part by part, under the names that users write.
func treatment(t *mesh.Traffic) (d debug.Treatment) {
	if t == nil {
		return d
	}
	for _, n := range t.From {
		d.From = append(d.From, debug.Name{Namespace: n.Namespace, Name: n.Name})
	}
	part := func(name, format string, args ...any) {
		d.Parts = append(d.Parts, debug.Part{Name: name, Text: fmt.Sprintf(format, args...)})
	}
	if r := t.Retry; r != nil {
		part("retries", "%d at most, %s, within a budget of %g of the requests and %g a second", r.Limit, retryText(r), r.Ratio, r.Floor)
	}
	if o := t.Timeouts; o != nil {
		part("timeouts", "request %s, attempt %s, idle %s", limitText(o.Request), limitText(o.Attempt), limitText(o.Idle))
	}
	if b := t.Breaker; b != nil {
		part("circuitBreaker", "%d failures in a row, success rate %g in %v; out for %v to %v; connections %d, pending %d", b.Consecutive, b.SuccessRate, b.Window, b.Min, b.Max, b.Connections, b.Pending)
	}
	if b := t.Balance; b != nil {
		part("loadBalancing", "%s", balanceText(b))
	}
	if l := t.Limit; l != nil {
		part("rateLimit", "total %g a second, each client %g a second, %d with their own", l.Total.PerSecond, l.Each.PerSecond, len(l.Except))
	}
	if len(t.Faults) > 0 {
		part("faults", "%s", faultsText(t.Faults))
	}
	if t.Protocol != mesh.Unknown {
		part("protocol", "%s", t.Protocol)
	}
	return d
}

func retryText(r *mesh.Retry) string {
	var on []string
	for _, s := range r.Statuses {
		if s.First == s.Last {
			on = append(on, fmt.Sprint(s.First))
		} else {
			on = append(on, fmt.Sprintf("%d-%d", s.First, s.Last))
		}
	}
	for _, c := range r.GRPC {
		on = append(on, fmt.Sprintf("gRPC %d", c))
	}
	if r.Connect {
		on = append(on, "no connection")
	}
	return "on " + strings.Join(on, ", ")
}

func limitText(d time.Duration) string {
	if d == 0 {
		return "unlimited"
	}
	return d.String()
}

func balanceText(b *mesh.Balance) string {
	text := "unknown"
	switch b.Algorithm {
	case mesh.PeakEWMA:
		text = "peak EWMA"
	case mesh.LeastRequest:
		text = "least request"
	case mesh.RoundRobin:
		text = "round robin"
	case mesh.ConsistentHash:
		text = "consistent hash of the client's address"
		switch b.HashOn {
		case mesh.HashHeader:
			text = "consistent hash of header " + b.HashName
		case mesh.HashCookie:
			text = "consistent hash of cookie " + b.HashName
		}
	}
	if b.SlowStart > 0 {
		text += ", slow start " + b.SlowStart.String()
	}
	if b.Zone {
		text += ", own zone first"
	}
	return text
}

func faultsText(all []mesh.Fault) string {
	var texts []string
	for _, f := range all {
		text := fmt.Sprintf("%g%%", f.Percent)
		if f.Delay > 0 {
			text += " delayed by " + f.Delay.String()
		}
		if f.Abort {
			text += fmt.Sprintf(" answered with %d or gRPC %d", f.Status, f.GRPC)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}
