package soak

import (
	"strings"
	"testing"
	"time"
)

// curve are samples of one measure.
func curve(name string, values func(i int) float64) []sample {
	var all []sample
	for i := range 100 {
		all = append(all, sample{time.Duration(i) * every, map[string]float64{name: values(i)}})
	}
	return all
}

func TestJudge(t *testing.T) {
	const name = "n1 proxy " + rss
	for what, test := range map[string]struct {
		values func(i int) float64
		growth bool
	}{
		"flat":                      {func(int) float64 { return 40000 }, false},
		"grows while it warms up":   {func(i int) float64 { return 40000 + 1000*float64(min(i, 29)) }, false},
		"grows for ever":            {func(i int) float64 { return 40000 + 100*float64(i) }, true},
		"goes up and down":          {func(i int) float64 { return 40000 + 9000*float64(i%3/2) }, false},
		"has a peak at the end":     {func(i int) float64 { return 40000 + 90000*float64(max(0, i-97)) }, false},
		"stays up after two thirds": {func(i int) float64 { return 40000 + 9000*float64(i/70) }, true},
	} {
		var v Verdict
		v.judge(curve(name, test.values))
		if len(v.Trends) != 1 || v.Trends[0].Process != "n1 proxy" || v.Trends[0].Measure != rss || v.Trends[0].Growth != test.growth {
			t.Errorf("%s: %+v", what, v.Trends)
		}
	}
}

// sound is a verdict with nothing wrong.
func sound() *Verdict {
	v := &Verdict{Seconds: 600, LeafTTL: leafTTL, Replaced: 1, Accounts: 1, Renewals: 12, Trends: make([]Trend, 1), Requests: Report{OK: map[string]int{}, Failed: map[string]int{}}}
	for _, k := range mix {
		v.Requests.OK[k.name] = 1
	}
	return v
}

func TestEveryFailureCounts(t *testing.T) {
	for want, spoil := range map[string]func(*Verdict){
		"":                          func(*Verdict) {},
		"1 requests failed":         func(v *Verdict) { v.take(Report{Failed: map[string]int{"h2": 1}, First: []string{"h2: it broke"}}) },
		"it broke":                  func(v *Verdict) { v.take(Report{Failed: map[string]int{"h2": 1}, First: []string{"h2: it broke"}}) },
		"no request of kind h1":     func(v *Verdict) { v.Requests.OK["h1"] = 0 },
		"grew from":                 func(v *Verdict) { v.Trends[0].Growth = true },
		"at rest":                   func(v *Verdict) { v.Rest = []Left{{Growth: true}} },
		"11 renewals":               func(v *Verdict) { v.Renewals = 11 },
		"nothing came and went, or": func(v *Verdict) { v.Replaced = 0 },
	} {
		v := sound()
		spoil(v)
		var out strings.Builder
		err := v.tell(&out)
		passed := strings.Contains(out.String(), `"pass":true`)
		if want == "" && (err != nil || !passed) || want != "" && (err == nil || passed || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v\n%s", want, err, out.String())
		}
	}
}

func TestLeftOver(t *testing.T) {
	before := map[string]float64{"a " + rss: 1, "a " + files: 20, "a " + goroutines: 30}
	now := map[string]float64{"a " + rss: 99999, "a " + files: 20 + restTolerance + 1, "a " + goroutines: 30 + restTolerance}
	for _, l := range leftOver(before, now) {
		if l.Measure == rss || l.Growth != (l.Measure == files) {
			t.Errorf("%+v", l)
		}
	}
}

func TestOrderHasEveryShare(t *testing.T) {
	got := map[string]int{}
	for _, k := range kinds {
		got[k.name]++
	}
	for _, k := range mix {
		if got[k.name] != k.share {
			t.Errorf("%s: %d of 100, want %d", k.name, got[k.name], k.share)
		}
	}
}

func TestSeries(t *testing.T) {
	const text = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\"} 4\nab 5\nb 1e+01\n"
	if got := series(text, "a", `x="1"`); got != 7 {
		t.Errorf("%v, want 7", got)
	}
	if got := series(text, "a", `y="2"`); got != 3 {
		t.Errorf("%v, want 3", got)
	}
	if got := series(text, "b"); got != 10 {
		t.Errorf("%v, want 10", got)
	}
}
