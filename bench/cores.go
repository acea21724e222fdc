package main

import (
	"context"
	"fmt"
	"runtime"
)

// coreKinds are what is asked with one core and with two.
func coreKinds(seconds int) []kind { return kinds(seconds)[:2] }

// measureCores says what two cores serve in proportion to one. Proxies learn at their start how many they have: so each round has a lab of
// its own for either number, in turn.
func measureCores(ctx context.Context, o options, r *report) error {
	for round := range o.few() {
		for i := range 2 {
			cores := 1 + i
			if round%2 == 1 {
				cores = 2 - i
			}
			at, _ := spread(runtime.NumCPU(), cores)
			err := onStageAt(ctx, o, at, func(s *stage) error { return s.saturate(ctx, cores, r) })
			if err != nil {
				return fmt.Errorf("with %d cores: %w", cores, err)
			}
		}
	}
	_, isShared := spread(runtime.NumCPU(), 2)
	for _, k := range coreKinds(o.seconds) {
		for _, name := range []string{fairlead, haproxy} {
			gain, err := r.gain(k.name, name, isShared)
			if err != nil && name == fairlead {
				return err
			}
			if err != nil {
				continue // it was left out
			}
			r.note(k.name+"_two_cores_vs_one", name, times, gain)
		}
	}
	return nil
}

// saturate measures Fairlead and HAProxy once.
func (s *stage) saturate(ctx context.Context, cores int, r *report) error {
	for _, k := range coreKinds(s.o.seconds) {
		samples, gone, err := s.compare(ctx, k, k.loads[0], s.contenders(k)[:2], 1)
		r.leave(gone)
		if err != nil {
			return err
		}
		for _, one := range samples {
			r.note(coreFigure(k.name, cores, "rps"), one.contender, "requests/s", one.rps)
			r.note(coreFigure(k.name, cores, "cpu"), one.contender, "µs", micros(one.cpu))
		}
	}
	return nil
}

func coreFigure(kind string, cores int, what string) string {
	return fmt.Sprintf("%s_cores_%d_%s", kind, cores, what)
}

// gain is how many times as much two cores serve. Where load and origins have processors of their own, it is the requests that were served
// in a second. Where the proxies have to share theirs with them, that would be the gain of all together: then it is what two cores would
// serve that have nothing else to do, by the processor time that a request takes.
func (r *report) gain(kind, contender string, isShared bool) (float64, error) {
	what := "rps"
	if isShared {
		what = "cpu"
	}
	one, ok1 := r.figure(coreFigure(kind, 1, what), contender)
	two, ok2 := r.figure(coreFigure(kind, 2, what), contender)
	if !ok1 || !ok2 || one <= 0 || two <= 0 {
		return 0, fmt.Errorf("%s of %s was not measured with one core and with two", kind, contender)
	}
	if isShared {
		return 2 * one / two, nil
	}
	return two / one, nil
}
