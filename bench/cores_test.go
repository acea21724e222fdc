package main

import (
	"reflect"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		have, proxies int
		want          places
		isShared      bool
	}{
		{2, 1, places{[]int{0}, []int{1}}, true},
		{2, 2, places{[]int{0, 1}, []int{0, 1}}, true},
		{3, 2, places{[]int{0, 1}, []int{0, 1}}, true},
		{4, 1, places{[]int{0, 3}, []int{1}}, false},
		{16, 2, places{[]int{0, 3}, []int{1, 2}}, false},
	} {
		if got, isShared := spread(tc.have, tc.proxies); !reflect.DeepEqual(got, tc.want) || isShared != tc.isShared {
			t.Errorf("%d of %d: %v, %t", tc.proxies, tc.have, got, isShared)
		}
	}
}

func TestCPUList(t *testing.T) {
	for want, cpus := range map[string][]int{"0": {0}, "0-1": {0, 1}, "0,3": {0, 3}, "0-2,5,7-8": {0, 1, 2, 5, 7, 8}} {
		if got := cpuList(cpus); got != want {
			t.Errorf("%v: %q, want %q", cpus, got, want)
		}
	}
}

// Requests a second count where the proxies have two cores for themselves; else what a request takes.
func TestGain(t *testing.T) {
	r := &report{}
	for name, v := range map[string]float64{"k_cores_1_rps": 1000, "k_cores_2_rps": 1100, "k_cores_1_cpu": 50, "k_cores_2_cpu": 55} {
		r.note(name, fairlead, "", v)
	}
	if got, err := r.gain("k", fairlead, false); err != nil || got != 1.1 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.gain("k", fairlead, true); err != nil || got < 1.818 || got > 1.819 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.gain("k", haproxy, true); err == nil {
		t.Errorf("%v of who was not measured", got)
	}
}
