package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.io/fairlead/internal/mesh"
)

// stepper follows a world by deltas alone, and checks that this is the world.
type stepper struct {
	world *World
	rows  map[string]string
	since uint64
}

func (s *stepper) step(t testing.TB) {
	t.Helper()
	d := s.world.Delta(s.since, all)
	if s.rows == nil || d.Reset {
		s.rows = map[string]string{}
	}
	s.since = d.Version
	for _, k := range d.GonePods {
		delete(s.rows, "pod "+k)
	}
	for _, k := range d.GoneNodes {
		delete(s.rows, "node "+k)
	}
	for _, k := range d.GoneServices {
		delete(s.rows, "service "+k.String())
	}
	for _, k := range d.GoneEndpoints {
		delete(s.rows, "endpoints "+k.String())
	}
	for _, k := range d.GoneRoutes {
		delete(s.rows, "routes "+k.String())
	}
	addRows(s.rows, d)
	whole := map[string]string{}
	addRows(whole, s.world.Delta(0, all))
	if diff := cmp.Diff(whole, s.rows); diff != "" {
		t.Fatalf("world and sum of deltas differ: %s", diff)
	}
}

func addRows(rows map[string]string, d mesh.Delta) {
	for _, p := range d.Pods {
		rows["pod "+p.UID] = fmt.Sprintf("%+v", *p)
	}
	for _, n := range d.Nodes {
		rows["node "+n.Name] = fmt.Sprintf("%+v", *n)
	}
	for _, x := range d.Services {
		rows["service "+x.String()] = fmt.Sprintf("%+v", *x)
	}
	for _, e := range d.Endpoints {
		rows["endpoints "+e.Service.String()] = fmt.Sprintf("%+v", *e)
	}
	for _, r := range d.Routes {
		rows["routes "+r.Service.String()] = fmt.Sprintf("%+v", *r)
	}
}

func TestDeltasAddUpToTheWorld(t *testing.T) {
	for _, limit := range []int{8, 1 << 16} { // with the small history a slow follower is given the whole
		w, f := NewWorld(Config{History: limit}), newFiles()
		fast, slow := &stepper{world: w}, &stepper{world: w}
		rnd := rand.New(rand.NewPCG(1, uint64(limit)))
		for i := range 400 {
			name := fmt.Sprintf("o%d", rnd.IntN(12))
			addr := fmt.Sprintf("10.0.0.%d", 1+rnd.IntN(15))
			switch rnd.IntN(6) {
			case 0:
				w.Update(f.drop(name + ".yaml"))
			case 1:
				apply(t, w, f, "ns.yaml", []string{nsShop, nsPlain}[rnd.IntN(2)])
			case 2:
				apply(t, w, f, name+".yaml", svcDoc(name, addr, ""))
			case 3:
				captured := map[string][]netip.Addr{"u-" + name: addrs(addr)}
				w.SetCaptured("a", w.Version(), captured)
			case 4:
				for uid := range w.Leaving() {
					w.Release(uid)
				}
			default:
				apply(t, w, f, name+".yaml", podDoc(name, addr, ""))
			}
			fast.step(t)
			if i%40 == 39 {
				slow.step(t)
			}
		}
	}
}

func TestADeltaIsOfTheChange(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	var docs []string
	for i := range 500 {
		docs = append(docs, podDoc(fmt.Sprintf("p%d", i), fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250), ""))
	}
	apply(t, w, f, "all.yaml", append(docs, nsShop)...)
	before := w.Version()
	docs[7] = podDoc("p7", "10.9.9.9", "")
	apply(t, w, f, "all.yaml", append(docs, nsShop)...)
	if d := w.Delta(before, all); d.Reset || len(d.Pods) != 1 || len(d.GonePods) != 0 || d.Version != before+1 {
		t.Errorf("%+v", d)
	}
	same := w.Version()
	apply(t, w, f, "all.yaml", append(docs, nsShop)...)
	if w.Version() != same {
		t.Error("the same again is a change")
	}
	if d := w.Delta(1, all); !d.Reset || len(d.Pods) != 500 {
		t.Error("a version of long ago does not bring the whole")
	}
}

// BenchmarkFiftyThousandPods is a world of 50,000 pods: read whole, and one pod changed.
func BenchmarkFiftyThousandPods(b *testing.B) {
	objects := func() []Object {
		out := decode("f", []byte(nsShop))
		for i := range 50_000 {
			out = append(out, decode("f", []byte(podDoc(fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, 1+i%250), "")))...)
		}
		var set []Object
		for _, d := range out {
			set = append(set, d.Object)
		}
		return set
	}()
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			w := NewWorld(Config{})
			w.Update(objects, nil)
			if d := w.Delta(0, all); len(d.Pods) != 50_000 {
				b.Fatal(len(d.Pods))
			}
		}
	})
	w := NewWorld(Config{})
	w.Update(objects, nil)
	b.Run("one pod", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			since := w.Version()
			doc := strings.Replace(podDoc("p7", "10.9.9.9", ""), "i}", fmt.Sprintf("i}], terminationGracePeriodSeconds: %d, initContainers: [", i%100), 1)
			w.Update([]Object{decode("f", []byte(doc))[0].Object}, nil)
			if d := w.Delta(since, all); d.Reset {
				b.Fatal("reset")
			}
		}
	})
}

func TestACaptureOfAnEarlierLifeLeavesInOrder(t *testing.T) {
	w := load(t, nsPlain, podDoc("p", "10.0.0.1", ""))
	captured := map[string][]netip.Addr{"u-p": addrs("10.0.0.1")}
	w.SetCaptured("a", w.start-1000, captured)
	if !enrolledUID(w, "a", "u-p") || pod(t, w, "u-p").InMesh || len(w.Leaving()) != 1 {
		t.Fatalf("enrolled %v, leaving %v", enrolledUID(w, "a", "u-p"), w.Leaving())
	}
	w.SetCaptured("a", w.Version(), captured)
	w.Release("u-p")
	if enrolledUID(w, "a", "u-p") || len(w.Leaving()) != 0 {
		t.Fatal("not released")
	}
	w.SetCaptured("a", w.Version()-1, captured) // not seen the release yet
	w.SetCaptured("a", w.Version(), nil)
	if enrolledUID(w, "a", "u-p") || pod(t, w, "u-p").InMesh {
		t.Fatal("back again")
	}
}
