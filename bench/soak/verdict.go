package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// warmUp is the share of the time that does not count, at the beginning.
const warmUp = 0.3

// tolerance is what the median of a measure may be above the one before: the larger of a share and a number. Garbage and the number of
// connections at a moment go up and down by more than that, medians do not.
type tolerance struct{ share, number float64 }

var tolerances = map[string]tolerance{
	rss:        {0.05, 4096},
	live:       {0.1, 1024},
	goroutines: {0.1, 16},
	files:      {0.1, 24},
}

func (t tolerance) above(v float64) float64 { return max(v*(1+t.share), v+t.number) }

// Trend is one measure of one process.
type Trend struct {
	Process, Measure string
	First, Last      float64 // medians of the first and the last third after the warm-up
	Min, Max         float64
	Allowed          float64 // for Last
	Growth           bool
}

// Left is a measure of what is there when everything has gone, beside what was there before it came.
type Left struct {
	Process, Measure string
	Before, After    float64
	Growth           bool
	Held             string // what grown descriptors are
}

// Verdict is what came of a soak.
type Verdict struct {
	Seconds    float64
	Saturation float64 // requests a second, if it was measured
	Rate       int
	LeafTTL    time.Duration
	Requests   Report
	Replaced   int // servers
	Accounts   int // that came and went
	Renewals   int // of the proxies' own certificates
	Trends     []Trend
	Rest       []Left
}

// take adds the requests of a client.
func (v *Verdict) take(r Report) { v.Requests.add(r) }

// judge compares the first and the last third of what comes after the warm-up.
func (v *Verdict) judge(all []sample) {
	all = all[int(warmUp*float64(len(all))):]
	third := len(all) / 3
	if third == 0 {
		return
	}
	for _, name := range sorted(all[0].values) {
		at := strings.LastIndexByte(name, ' ')
		t := Trend{Process: name[:at], Measure: name[at+1:], First: middle(all[:third], name), Last: middle(all[len(all)-third:], name)}
		t.Min, t.Max = all[0].values[name], all[0].values[name]
		for _, s := range all {
			t.Min, t.Max = min(t.Min, s.values[name]), max(t.Max, s.values[name])
		}
		t.Allowed = tolerances[t.Measure].above(t.First)
		t.Growth = t.Last > t.Allowed
		v.Trends = append(v.Trends, t)
	}
}

// middle is the median of a measure.
func middle(all []sample, name string) float64 {
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = s.values[name]
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// failures are all reasons for which the soak has failed.
func (v *Verdict) failures() []error {
	var errs []error
	if n := sum(v.Requests.Failed); n > 0 {
		errs = append(errs, fmt.Errorf("%d requests failed, the first of them: %s", n, strings.Join(v.Requests.First, "\n  ")))
	}
	for _, k := range mix {
		if v.Requests.OK[k.name] == 0 {
			errs = append(errs, fmt.Errorf("no request of kind %s succeeded", k.name))
		}
	}
	for _, t := range v.Trends {
		if t.Growth {
			errs = append(errs, fmt.Errorf("%s: %s grew from %.0f to %.0f, more than %.0f", t.Process, t.Measure, t.First, t.Last, t.Allowed))
		}
	}
	for _, l := range v.Rest {
		if l.Growth {
			errs = append(errs, fmt.Errorf("%s: %s was %.0f before and is %.0f at rest: %s", l.Process, l.Measure, l.Before, l.After, l.Held))
		}
	}
	if want := 2 * int(v.Seconds/v.LeafTTL.Seconds()); v.Renewals < want { // each proxy, much more often than that
		errs = append(errs, fmt.Errorf("%d renewals of certificates were seen, want %d", v.Renewals, want))
	}
	if v.Replaced == 0 || v.Accounts == 0 || len(v.Trends) == 0 {
		errs = append(errs, errors.New("nothing came and went, or nothing was measured"))
	}
	return errs
}

// tell writes the tables and the line, and returns what failed.
func (v *Verdict) tell(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "process\tmeasure\tfirst third\tlast third\tallowed\tmin\tmax\tgrowth\t")
	for _, r := range v.Trends {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%t\t\n", r.Process, r.Measure, r.First, r.Last, r.Allowed, r.Min, r.Max, r.Growth)
	}
	fmt.Fprintln(t, "\nprocess\tmeasure\tbefore\tat rest\tgrowth\t")
	for _, l := range v.Rest {
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%t\t\n", l.Process, l.Measure, l.Before, l.After, l.Growth)
	}
	fmt.Fprintln(t, "\nrequests\tsucceeded\tfailed\t")
	for _, k := range slices.Sorted(maps.Keys(v.kinds())) {
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", k, v.Requests.OK[k], v.Requests.Failed[k])
	}
	errs := v.failures()
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d servers replaced, %d accounts came and went, %d renewals of the proxies' certificates in %v\n", v.Replaced, v.Accounts, v.Renewals,
		time.Duration(v.Seconds*float64(time.Second)).Round(time.Second))
	line, err := json.Marshal(map[string]any{"soak": v.summary(), "pass": len(errs) == 0})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return errors.Join(append(errs, err)...)
}

func (v *Verdict) kinds() map[string]int {
	all := maps.Clone(v.Requests.OK)
	maps.Copy(all, v.Requests.Failed)
	return all
}

// summary is the verdict in a few numbers.
func (v *Verdict) summary() map[string]any {
	grew := 0
	worst := 0.0
	for _, t := range v.Trends {
		if t.Growth {
			grew++
		}
		if t.Measure == rss && t.First > 0 {
			worst = max(worst, t.Last/t.First-1)
		}
	}
	return map[string]any{"seconds": int(v.Seconds), "rate": v.Rate, "saturation": int(v.Saturation), "requests": sum(v.Requests.OK), "failed": sum(v.Requests.Failed),
		"replaced": v.Replaced, "accounts": v.Accounts, "renewals": v.Renewals, "grew": grew, "rss_growth_max": float64(int(worst*1000)) / 1000}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
