package compile

import (
	"net/netip"
	"testing"
)

// TestClosed has everybody leave and join again: announced first, released when everybody knows, and in the mesh
// again only after a new capture.
func TestClosed(t *testing.T) {
	w := load(t, nsShop, podDoc("web", "10.0.0.1", ""), podDoc("db", "10.0.0.2", ""))
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-web": addrs("10.0.0.1")}) // db is not captured yet
	if !pod(t, w, "u-web").InMesh {
		t.Fatal("not in the mesh")
	}
	before := w.Version()
	w.SetClosed(true)
	if !w.Closed() || w.Version() == before {
		t.Error("nobody is told")
	}
	if pod(t, w, "u-web").InMesh || !enrolledUID(w, "a", "u-web") {
		t.Error("not announced before it is released")
	}
	if enrolledUID(w, "a", "u-db") {
		t.Error("a pod that was never announced is held")
	}
	if leaving := w.Leaving(); len(leaving) != 1 || leaving["u-web"] == 0 {
		t.Errorf("leaving: %v", leaving)
	}
	if ns, at := w.Namespaces(); ns["shop"] || at != w.Version() {
		t.Errorf("namespaces %v of version %d, the world is at %d", ns, at, w.Version())
	}
	w.Release("u-web")
	if enrolledUID(w, "a", "u-web") {
		t.Error("not released")
	}
	if n := w.Captured()["a"]; n != 1 {
		t.Errorf("%d captured before the keeper has said otherwise", n)
	}
	w.SetCaptured("a", w.Version(), nil)
	if n := w.Captured()["a"]; n != 0 {
		t.Errorf("%d captured", n)
	}

	again := w.Version()
	w.SetClosed(true)
	if w.Version() != again {
		t.Error("twice is another change")
	}
	w.SetClosed(false)
	if ns, _ := w.Namespaces(); !ns["shop"] {
		t.Errorf("namespaces %v", ns)
	}
	if !enrolledUID(w, "a", "u-web") || !enrolledUID(w, "a", "u-db") || pod(t, w, "u-web").InMesh {
		t.Error("not to be captured again, or announced before it is")
	}
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-web": addrs("10.0.0.1")})
	if !pod(t, w, "u-web").InMesh {
		t.Error("not in the mesh again")
	}
}

// TestClosedToWhoComes: what is new, labelled or not good any more is not enrolled either.
func TestClosedToWhoComes(t *testing.T) {
	w, f := load(t), newFiles()
	apply(t, w, f, "f.yaml", nsPlain, saWeb, podDoc("web", "10.0.0.1", ", serviceAccountName: web"))
	apply(t, w, f, "f.yaml", nsShop, saWeb, podDoc("web", "10.0.0.1", ", serviceAccountName: web"))
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-web": addrs("10.0.0.1")})
	apply(t, w, f, "f.yaml", nsShop, podDoc("web", "10.0.0.1", ", serviceAccountName: web")) // stays, though its account has gone
	if !pod(t, w, "u-web").InMesh {
		t.Fatal("not in the mesh")
	}
	w.SetClosed(true)
	if pod(t, w, "u-web").InMesh {
		t.Error("a pod that is not good any more stays in the mesh")
	}
	apply(t, w, f, "f.yaml", nsShop, saWeb, podDoc("web", "10.0.0.1", ", serviceAccountName: web"), podDoc("new", "10.0.0.3", ""))
	if enrolledUID(w, "a", "u-new") {
		t.Error("a new pod is enrolled")
	}
	if pod(t, w, "u-web").InMesh {
		t.Error("it has come back")
	}
}

// TestClosedFromTheStart: what a keeper has captured in an earlier life of the controller leaves in order.
func TestClosedFromTheStart(t *testing.T) {
	w := NewWorld(Config{})
	w.SetClosed(true)
	apply(t, w, newFiles(), "f.yaml", nsShop, podDoc("web", "10.0.0.1", ""))
	if unheard := w.Unheard(); len(unheard) != 0 {
		t.Errorf("%v are waited for", unheard)
	}
	w.SetCaptured("a", w.Version(), map[string][]netip.Addr{"u-web": addrs("10.0.0.1")})
	if pod(t, w, "u-web").InMesh || len(w.Leaving()) != 1 {
		t.Errorf("in mesh %v, leaving %v", pod(t, w, "u-web").InMesh, w.Leaving())
	}
	w.Release("u-web")
	if enrolledUID(w, "a", "u-web") {
		t.Error("not released")
	}
}
