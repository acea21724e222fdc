package keeper

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A proxy is told at once, and again when it changes, which programs of others see every connect. What cannot be told
// is taken as it was.
func TestProgramsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		set := func(err error, programs ...string) {
			f.redirect.mu.Lock()
			defer f.redirect.mu.Unlock()
			f.redirect.others, f.redirect.othersErr = programs, err
		}
		set(nil, "at_the_start")
		k := f.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.watchOthers(ctx) }()
		defer func() { cancel(); <-done; k.close() }()
		p := newFakeProxy()
		(*proxyCalls)(k).Attached(p)
		others := func() []string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.Clone(p.others)
		}
		if told := others(); !slices.Equal(told, []string{"[at_the_start]"}) {
			t.Fatalf("told at first: %q", told)
		}
		for _, step := range []struct {
			err      error
			programs []string
			want     string
		}{
			{nil, []string{"at_the_start"}, ""},
			{nil, []string{"at_the_start", "later"}, "[at_the_start later]"},
			{errors.New("no"), nil, ""},
			{nil, []string{"at_the_start", "later"}, ""},
			{nil, nil, "[]"},
		} {
			before := len(others())
			set(step.err, step.programs...)
			time.Sleep(30 * time.Second) // synctest: no real time
			synctest.Wait()
			news := others()[before:]
			if step.want == "" && len(news) > 0 || step.want != "" && !slices.Equal(news, []string{step.want}) {
				t.Errorf("%+v: told %q", step, news)
			}
		}
	})
}
