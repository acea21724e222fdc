package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/mesh"
)

func all(mesh.Name) bool { return true }

func sameAddr(a, b netip.Addr) bool { return a == b }

// load puts YAML in force as one file's content, and returns the world.
func load(t testing.TB, docs ...string) *World {
	t.Helper()
	w := NewWorld(Config{})
	apply(t, w, newFiles(), "f.yaml", docs...)
	return w
}

func apply(t testing.TB, w *World, f *files, name string, docs ...string) {
	t.Helper()
	w.Update(f.put(name, []byte(strings.Join(docs, "\n---\n"))))
	problems, _ := f.problems()
	for _, p := range problems {
		t.Log("problem of reading:", p)
	}
}

func pod(t testing.TB, w *World, uid string) *mesh.Pod {
	t.Helper()
	return (&mesh.Snapshot{}).Apply(w.Delta(0, all)).Pod(uid)
}

func world(w *World) *mesh.Snapshot { return (&mesh.Snapshot{}).Apply(w.Delta(0, all)) }

func enrolledUID(w *World, node, uid string) bool {
	pods, _ := w.Enrolments(node)
	for _, p := range pods {
		if p.UID == uid {
			return p.Enrolled
		}
	}
	return false
}

// text is a world as text, for whole comparisons.
func text(w *World) string {
	d := w.Delta(0, all)
	var lines []string
	for _, p := range d.Pods {
		lines = append(lines, fmt.Sprintf("pod %s %s %s on %s of %s %v mesh=%v host=%v", p.UID, p.Name, p.Account.Name, p.Node, p.Workload, p.Addrs, p.InMesh, p.HostNet))
	}
	for _, s := range d.Services {
		lines = append(lines, fmt.Sprintf("service %s %v %v", s.Name, s.Addrs, s.Ports))
	}
	for _, n := range d.Nodes {
		lines = append(lines, fmt.Sprintf("node %s %s %v", n.Name, n.Zone, n.Addrs))
	}
	for _, e := range d.Endpoints {
		lines = append(lines, fmt.Sprintf("endpoints %s %v", e.Service, e.Ports))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

const (
	nsShop  = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {fairlead.io/mesh: enabled}}"
	nsPlain = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}"
	saWeb   = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web, namespace: shop}"
)

func podDoc(name, ip, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, uid: u-%s}\nspec: {nodeName: a, containers: [{name: c, image: i}]%s}\nstatus: {podIP: %s}", name, name, more, ip)
}

func svcDoc(name, ip, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec: {clusterIP: %s, ports: [{port: 80}]%s}", name, ip, more)
}
