package bot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead.io/fairlead/examples/vote"
)

// fakeFront answers as the front does; while broken, something before it answers 502.
type fakeFront struct{ broken atomic.Bool }

func (f *fakeFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.broken.Load() {
		http.Error(w, "no upstream", http.StatusBadGateway)
		return
	}
	w.Header().Set(vote.MarkerHeader, vote.Marker)
	switch {
	case r.Header.Get(vote.MarkerHeader) != vote.Marker:
		http.Error(w, "no marker", http.StatusTeapot)
	case r.URL.Path == "/api/list":
		fmt.Fprint(w, `{"choices":[{"shortcode":"doughnut"},{"shortcode":"pizza"}],"servedBy":"c1"}`)
	case r.URL.Path == "/api/leaderboard":
		fmt.Fprint(w, `{"leaders":[],"servedBy":"b1"}`)
	case r.Method == http.MethodPost && r.URL.Query().Get("choice") == "doughnut":
		w.WriteHeader(http.StatusInternalServerError)
	case r.Method == http.MethodPost && r.URL.Query().Get("choice") == "pizza":
		fmt.Fprint(w, `{"servedBy":"b1"}`)
	default:
		http.Error(w, "what?", http.StatusBadRequest)
	}
}

// follow runs a bot and calls see with each line until see says that it has seen enough.
func follow(t *testing.T, c Config, see func(Counts) bool) Counts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	c.Out = w
	ended := make(chan error, 1)
	go func() {
		err := New(c).Run(ctx)
		w.Close()
		ended <- err
	}()
	var last Counts
	for lines := bufio.NewScanner(r); lines.Scan(); {
		last = Counts{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		if sum := last.OK + sum(last.Failed) + sum(last.Other); sum != last.Total {
			t.Errorf("total %d, but the parts are %d", last.Total, sum)
		}
		if see(last) {
			cancel()
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !see(last) {
		t.Fatalf("30 s were not enough: %+v", last)
	}
	return last
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

func TestOnlyTheDoughnutFails(t *testing.T) {
	s := httptest.NewServer(new(fakeFront))
	defer s.Close()
	c := follow(t, Config{Front: s.Listener.Addr().String(), Rate: 2000, Report: 10 * time.Millisecond}, func(c Counts) bool {
		return c.Failed["doughnut"] > 5 && c.Served["vote b1"] > 5 && c.Served["list c1"] > 1 && c.Served["leaderboard b1"] > 1
	})
	if c.Unexpected != 0 || len(c.Other) != 0 || len(c.Failed) != 1 {
		t.Errorf("counts %+v", c)
	}
}

func TestGoesOnThroughErrors(t *testing.T) {
	f := new(fakeFront)
	f.broken.Store(true)
	s := httptest.NewServer(f)
	defer s.Close()
	var okAfterwards bool
	c := follow(t, Config{Front: s.Listener.Addr().String(), Rate: 2000, Report: 10 * time.Millisecond}, func(c Counts) bool {
		if c.Other["list foreign 502"] > 3 {
			f.broken.Store(false)
			okAfterwards = okAfterwards || c.OK > 3
		}
		return okAfterwards
	})
	if c.Unexpected < 4 {
		t.Errorf("counts %+v", c)
	}
}

func TestReportThatCannotBeWrittenEndsTheBot(t *testing.T) {
	s := httptest.NewServer(new(fakeFront))
	defer s.Close()
	r, w := io.Pipe()
	r.Close()
	err := New(Config{Front: s.Listener.Addr().String(), Rate: 100, Report: time.Millisecond, Out: w}).Run(t.Context())
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("err = %v, want a closed pipe", err)
	}
}

func TestTally(t *testing.T) {
	timeout := &net.OpError{Op: "read", Err: context.DeadlineExceeded}
	var tally tally
	for _, add := range []struct {
		what, choice string
		result       result
	}{
		{"list", "", result{status: 200, servedBy: "c1"}},
		{"vote", "doughnut", result{status: 500}},
		{"vote", "pizza", result{status: 500}},
		{"vote", "doughnut", result{status: 503}},
		{"vote", "doughnut", result{status: 500, foreign: true}},
		{"vote", "whale", result{err: fmt.Errorf("post: %w", io.EOF)}},
		{"list", "", result{err: timeout}},
	} {
		tally.add(add.what, add.choice, add.result)
	}
	want := Counts{
		Total: 7, OK: 1, Unexpected: 5, LastError: timeout.Error(),
		Failed: map[string]uint64{"doughnut": 1, "pizza": 1},
		Other:  map[string]uint64{"vote 503": 1, "vote foreign 500": 1, "vote cut": 1, "list timeout": 1},
		Served: map[string]uint64{"list c1": 1},
	}
	if diff := cmp.Diff(want, tally.snapshot(), cmpopts.IgnoreFields(Counts{}, "Time")); diff != "" {
		t.Error(diff)
	}
}

func TestTallyIsBounded(t *testing.T) {
	var tally tally
	for i := range 2 * maxKeys {
		tally.add("list", "", result{status: 200, servedBy: strings.Repeat("x", i)})
	}
	if n := len(tally.snapshot().Served); n != maxKeys+1 {
		t.Errorf("%d keys, want %d", n, maxKeys+1)
	}
}
