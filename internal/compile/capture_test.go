package compile

import (
	"net/netip"
	"strings"
	"testing"
)

// The keeper sees who has an address before the files say that the one before has let it go.
func TestACapturedAddressIsGivenAsSoonAsItIsFree(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "1.yaml", nsShop, podDoc("old", "10.0.0.1", ""))
	apply(t, w, f, "2.yaml", podDoc("new", `""`, ""))
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-new": addrs("10.0.0.1")})
	if p := w.Problems(); len(p) != 1 || len(pod(t, w, "u-new").Addrs) != 0 {
		t.Fatalf("problems %v\n%s", p, text(w))
	}
	apply(t, w, f, "1.yaml", nsShop)
	if p := world(w).PodByAddr(addrs("10.0.0.1")[0]); p == nil || p.UID != "u-new" || !p.InMesh {
		t.Fatalf("the address is %v's\n%s", p, text(w))
	}
	if p := w.Problems(); len(p) != 0 {
		t.Fatalf("problems %v", p)
	}
}

// A pod of the same name (of a StatefulSet) or another gets the address while the one before is still captured.
func TestAnAddressIsNeverTwoPods(t *testing.T) {
	for _, name := range []string{"old", "new"} {
		w, f := NewWorld(Config{}), newFiles()
		apply(t, w, f, "1.yaml", nsShop, podDoc("old", "10.0.0.1", ""))
		w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-old": addrs("10.0.0.1")})
		next := podDoc(name, "10.0.0.1", "")
		if name == "old" {
			next = strings.Replace(next, "u-old", "u-new", 1)
		}
		apply(t, w, f, "1.yaml", nsShop, next)
		oneRow(t, w, "before the capture")
		w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-old": addrs("10.0.0.1"), "u-new": addrs("10.0.0.1")})
		oneRow(t, w, "after the capture")
		if p := world(w).PodByAddr(addrs("10.0.0.1")[0]); p == nil || p.UID != "u-new" || !p.InMesh {
			t.Errorf("%s: the address is %v's", name, p)
		}
		if world(w).Pod("u-old") == nil || len(w.Problems()) != 0 {
			t.Errorf("%s: the pod before is not released yet, and must have a row; problems %v", name, w.Problems())
		}
	}
}

func oneRow(t *testing.T, w *World, when string) {
	t.Helper()
	n := 0
	for _, p := range w.Delta(0, all).Pods {
		if len(p.Addrs) > 0 {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%s: the address is in %d rows\n%s", when, n, text(w))
	}
}

// A report from before the pod left says nothing of it when it comes back, whatever else is said of the pod meanwhile.
func TestAReportFromBeforeTheLeaveDoesNotAnnounce(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "1.yaml", nsShop, podDoc("p", "10.0.0.1", ""))
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-p": addrs("10.0.0.1")})
	apply(t, w, f, "1.yaml", nsPlain, podDoc("p", "10.0.0.1", ""))
	w.Release("u-p")
	apply(t, w, f, "1.yaml", nsShop, podDoc("p", "10.0.0.1", ""))
	apply(t, w, f, "1.yaml", nsShop, podDoc("p", "10.0.0.1", ", terminationGracePeriodSeconds: 7"))
	if !enrolledUID(w, "a", "u-p") || pod(t, w, "u-p").InMesh {
		t.Fatalf("announced by an old report\n%s", text(w))
	}
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-p": addrs("10.0.0.1")})
	if !pod(t, w, "u-p").InMesh {
		t.Error("not announced by a new report")
	}
}
