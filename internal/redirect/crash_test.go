package redirect

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCrash abandons the process before each step of an enrolment and of a leave, and has another one go on.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	before := state(t, p1.ns)
	out := netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0"))
	in := netip.AddrPortFrom(p1.v4, w.serve(p1.ns, "tcp", ":0"))
	crash := errors.New("crash")
	cfg := w.config()

	// dying opens the instance, lets Set die before the step, and leaves all as it is
	dying := func(step string, desired []Pod) (reached bool) {
		r := must[*Redirect](t)(Open(cfg))
		r.step = func(name string) error {
			if name != step {
				return nil
			}
			reached = true
			return crash
		}
		if _, err := r.Set(desired); reached && !errors.Is(err, crash) {
			t.Fatalf("%s: %v", step, err)
		}
		check(t, r.Close())
		return reached
	}
	steps := []string{"families", "remember sysctls", "route", "addresses", "listen", "attach sk_lookup", "capture", "guard"}
	for _, step := range steps {
		t.Run("enrol/"+step, func(t *testing.T) {
			if !dying(step, []Pod{w.pod("p1")}) {
				t.Fatal("no such step")
			}
			r := w.open(cfg)
			must[Change](t)(r.Set([]Pod{w.pod("p1")}))
			p := newProxy(t, r, "p1")
			expectCaptured(t, p, Out, p1.ns, out)
			expectCaptured(t, p, In, p3.ns, in)
			p.stop()
			expectQuiet(t, p1.ns) // CleanUp cuts connections off, and what is cut stays for a while
			check(t, r.Close())
			check(t, CleanUp(cfg))
			if diff := cmp.Diff(before, state(t, p1.ns)); diff != "" {
				t.Errorf("the first values are lost: %s", diff)
			}
		})
	}
	for _, step := range []string{"let connections pass", "detach", "empty slots", "close listeners", "forget addresses", "restore", "forget state", "forget pod"} {
		t.Run("leave/"+step, func(t *testing.T) {
			r := must[*Redirect](t)(Open(cfg))
			must[Change](t)(r.Set([]Pod{w.pod("p1")}))
			check(t, r.Close())
			if !dying(step, nil) {
				t.Fatal("no such step")
			}
			r = w.open(cfg)
			change := must[Change](t)(r.Set(nil))
			if len(change.Left) != 1 {
				t.Errorf("change: %+v", change)
			}
			if diff := cmp.Diff(before, state(t, p1.ns)); diff != "" {
				t.Errorf("the first values are lost: %s", diff)
			}
			for _, err := range []error{second(ask(p1.ns, out, nil)), second(ask(p3.ns, in, nil))} {
				check(t, err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestSetGoesOnAfterAnError(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.config())
	crash := errors.New("no")
	r.step = func(name string) error {
		if name == "capture" {
			return crash
		}
		return nil
	}
	if _, err := r.Set([]Pod{w.pod("p1")}); !errors.Is(err, crash) {
		t.Fatalf("Set: %v", err)
	}
	if _, err := r.Listeners("p1"); !errors.Is(err, ErrUnknownPod) {
		t.Errorf("Listeners of a half enrolled pod: %v", err)
	}
	r.step = func(name string) error { return crash } // at once
	if _, err := r.Set([]Pod{w.pod("p1"), w.pod("p2")}); !errors.Is(err, crash) {
		t.Fatalf("Set: %v", err)
	}
	r.step = nil
	change := must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	if diff := cmp.Diff([]string{"p2"}, change.Left); diff != "" {
		t.Error(diff)
	}
	change.Left, change.Leaving = nil, nil
	if diff := cmp.Diff(Change{Enrolled: []string{"p1"}}, change); diff != "" {
		t.Error(diff)
	}
}

// TestFailedUpdateKeepsThePod: it is captured as before, so its connections must go on.
func TestFailedUpdateKeepsThePod(t *testing.T) {
	w, r, p := captured(t)
	p1, p3 := w.pods["p1"], w.pods["p3"]
	crash := errors.New("no")
	r.step = func(name string) error {
		if name == "guard" {
			return crash
		}
		return nil
	}
	d := w.pod("p1")
	d.ProbePorts = []uint16{80}
	for range 2 { // and again
		if _, err := r.Set([]Pod{d, w.pod("p2")}); !errors.Is(err, crash) {
			t.Fatalf("Set: %v", err)
		}
	}
	expectCaptured(t, p, Out, p1.ns, netip.AddrPortFrom(p3.v4, w.serve(p3.ns, "tcp", ":0")))
}

func TestDescriptors(t *testing.T) {
	w := newWorld(t)
	count := func() int { return len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd"))) }
	runtime.GC() // closes what earlier tests forgot
	runtime.GC()
	before := count()
	r := must[*Redirect](t)(Open(w.config()))
	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	held := count()
	must[Change](t)(r.Set([]Pod{w.pod("p1")}))
	must[Change](t)(r.Set([]Pod{w.pod("p1"), w.pod("p2")}))
	check(t, errors.Join(r.Suspend(), r.Resume()))
	if n := count(); n != held {
		t.Errorf("%d descriptors, then %d", held, n)
	}
	check(t, errors.Join(r.Close(), CleanUp(w.config())))
	if n := count(); n > before {
		t.Errorf("%d descriptors before, %d after", before, n)
	}
}
