package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestContradictions(t *testing.T) {
	node := func(name, ip string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus: {addresses: [{type: InternalIP, address: %s}]}", name, ip)
	}
	np := "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {type: NodePort, clusterIP: %s, ports: [{port: 80, nodePort: 30000}]}"
	for _, c := range []struct {
		name          string
		first, second string
		cause         string
	}{
		{"two pods", podDoc("p1", "10.0.0.1", ""), podDoc("p2", "10.0.0.1", ""), "10.0.0.1 belongs to Pod shop/p1"},
		{"pod and service", svcDoc("s", "10.0.0.1", ""), podDoc("p", "10.0.0.1", ""), "10.0.0.1 belongs to Service shop/s"},
		{"service and pod", podDoc("p", "10.0.0.1", ""), svcDoc("s", "10.0.0.1", ""), "10.0.0.1 belongs to Pod shop/p"},
		{"two services", svcDoc("s1", "10.0.0.1", ""), svcDoc("s2", "10.0.0.1", ""), "10.0.0.1 belongs to Service shop/s1"},
		{"two nodes", node("a", "10.0.0.1"), node("b", "10.0.0.1"), "10.0.0.1 belongs to Node a"},
		{"node and pod", node("a", "10.0.0.1"), podDoc("p", "10.0.0.1", ""), "10.0.0.1 belongs to Node a"},
		{"v4-mapped", podDoc("p1", "10.0.0.1", ""), podDoc("p2", `"::ffff:10.0.0.1"`, ""), "10.0.0.1 belongs to Pod shop/p1"},
		{"node ports", fmt.Sprintf(np, "s1", "10.0.0.1"), fmt.Sprintf(np, "s2", "10.0.0.2"), "node port 30000 belongs to Service shop/s1"},
		{"uid", podDoc("p1", "10.0.0.1", ""), strings.Replace(podDoc("p2", "10.0.0.2", ""), "u-p2", "u-p1", 1), "uid u-p1 belongs to Pod shop/p1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := NewWorld(Config{}), newFiles()
			apply(t, w, f, "1.yaml", nsPlain, c.first)
			alone := text(w)
			apply(t, w, f, "2.yaml", c.second)
			p := w.Problems()
			if len(p) != 1 || p[0].File != "2.yaml" || !strings.Contains(p[0].Err.Error(), c.cause) {
				t.Fatalf("problems %v", p)
			}
			if diff := cmp.Diff(alone, text(w)); diff != "" {
				t.Error(diff)
			}
			// The first lets go: the second comes into force by itself.
			apply(t, w, f, "1.yaml", nsPlain)
			if len(w.Problems()) != 0 || text(w) == "" || text(w) == alone {
				t.Errorf("%v %s", w.Problems(), text(w))
			}
		})
	}
}

func TestALastGoodVersionStaysWhenTheNewOneContradicts(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "1.yaml", nsShop, podDoc("p1", "10.0.0.1", ""))
	apply(t, w, f, "2.yaml", podDoc("p2", "10.0.0.2", ""))
	good := text(w)
	apply(t, w, f, "2.yaml", podDoc("p2", "10.0.0.1", ""))
	if len(w.Problems()) != 1 || text(w) != good {
		t.Fatalf("%v\n%s", w.Problems(), text(w))
	}
	apply(t, w, f, "2.yaml", podDoc("p2", "10.0.0.3", ""))
	if len(w.Problems()) != 0 || !strings.Contains(text(w), "10.0.0.3") {
		t.Fatalf("%v\n%s", w.Problems(), text(w))
	}
}

func TestUnknownServiceAccount(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "p.yaml", nsShop, podDoc("p", "10.0.0.1", ", serviceAccountName: web"))
	if len(w.Problems()) != 1 || pod(t, w, "u-p") != nil {
		t.Fatalf("served: %v", w.Problems())
	}
	apply(t, w, f, "sa.yaml", saWeb)
	if len(w.Problems()) != 0 || pod(t, w, "u-p") == nil {
		t.Fatalf("not served: %v", w.Problems())
	}
	w.Update(f.drop("sa.yaml"))
	if len(w.Problems()) != 1 || pod(t, w, "u-p") == nil {
		t.Fatalf("the running pod lost its row: %v", w.Problems())
	}
}

func TestExternalAddressesThatAreTakenAreLeftOut(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "1.yaml", nsPlain, svcDoc("s1", "10.0.0.1", ", externalIPs: [192.0.2.1]"), svcDoc("s2", "10.0.0.2", ", externalIPs: [192.0.2.1, nonsense]"))
	s := world(w)
	if len(w.Problems()) != 2 || len(s.Service(splitName("shop/s2")).Addrs) != 1 {
		t.Fatalf("%v\n%s", w.Problems(), text(w))
	}
	apply(t, w, f, "1.yaml", nsPlain, svcDoc("s2", "10.0.0.2", ", externalIPs: [192.0.2.1]"))
	if len(w.Problems()) != 0 || len(world(w).Service(splitName("shop/s2")).Addrs) != 2 {
		t.Fatalf("%v\n%s", w.Problems(), text(w))
	}
}

func TestTwoFilesDefineOneObject(t *testing.T) {
	w, f := NewWorld(Config{}), newFiles()
	apply(t, w, f, "1.yaml", nsPlain, svcDoc("s", "10.0.0.1", ""))
	apply(t, w, f, "2.yaml", svcDoc("s", "10.0.0.2", ""))
	problems, _ := f.problems()
	if len(problems) != 1 || problems[0].File != "2.yaml" || !strings.Contains(text(w), "10.0.0.1") {
		t.Fatalf("%v\n%s", problems, text(w))
	}
	apply(t, w, f, "1.yaml", nsPlain)
	if problems, _ := f.problems(); len(problems) != 0 || !strings.Contains(text(w), "10.0.0.2") {
		t.Fatalf("%v\n%s", problems, text(w))
	}
}
