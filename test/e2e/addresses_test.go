package e2e

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// testTwoAddresses: pods and a service with an address of each family. Every one of them leads into the mesh, is refused to
// those outside it, and is what is seen on the wire.
func testTwoAddresses(t *testing.T) {
	if cidrs := lab.kubectl(t, "get", "node", lab.nodes[0], "-o", "jsonpath={.spec.podCIDRs[*]}"); len(strings.Fields(cidrs)) < 2 {
		if lab.own {
			t.Fatalf("our own cluster gives pods addresses of %s only", cidrs)
		}
		t.Skipf("this cluster gives pods addresses of %s only", cidrs)
	}
	in, out := namespace(t, "e2e-two", true), namespace(t, "e2e-two-out", false)
	mustServe(t, server{namespace: in, name: "strict", replicas: 1, node: lab.nodes[1], annotations: onlyMesh,
		service: ", ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]"})
	var service struct{ Spec struct{ ClusterIPs []string } }
	var pods struct {
		Items []struct {
			Status struct{ PodIPs []struct{ IP string } }
		}
	}
	lab.get(t, &service, "-n", in, "service", "strict")
	lab.get(t, &pods, "-n", in, "pods", "-l", "app=strict")
	if len(service.Spec.ClusterIPs) != 2 || len(pods.Items) != 1 || len(pods.Items[0].Status.PodIPs) != 2 {
		t.Fatalf("addresses of the service and its pod: %v, %v", service, pods)
	}
	for _, c := range []struct {
		name, mode, to string
	}{
		{"by-name", "h1", "strict:80"},
		{"service6-h1", "h1", at(service.Spec.ClusterIPs[0], "80")},
		{"service6-h2", "h2", at(service.Spec.ClusterIPs[0], "80")},
		{"service6-tcp", "tcp", at(service.Spec.ClusterIPs[0], "9000")},
		{"service4-h2", "h2", at(service.Spec.ClusterIPs[1], "80")},
		{"pod4-h1", "h1new", at(pods.Items[0].Status.PodIPs[0].IP, "8080")},
		{"pod6-h1", "h1new", at(pods.Items[0].Status.PodIPs[1].IP, "8080")},
		{"pod6-tcp", "tcp", at(pods.Items[0].Status.PodIPs[1].IP, "9000")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustFlawless(t, "from the mesh", call(t, in, c.name, lab.nodes[0], c.mode, c.to), 20)
			if c.mode != "h2" { // a client of HTTP/2 sends again what was refused
				mustFail(t, "from outside", call(t, out, c.name, lab.nodes[0], c.mode, strings.Replace(c.to, "strict:", "strict."+in+":", 1)))
			}
		})
	}
	t.Run("on the wire", func(t *testing.T) {
		testWire6(t, in, netip.MustParseAddr(pods.Items[0].Status.PodIPs[1].IP), at(service.Spec.ClusterIPs[0], "9000"))
	})
}

func at(addr, port string) string { return net.JoinHostPort(addr, port) }

// testWire6: a client of the service's IPv6 address is seen to go, over mutual TLS, from its pod's IPv6 address to the server's.
func testWire6(t *testing.T, ns string, server netip.Addr, service string) {
	seen := lab.watch(t, 16*time.Second, "no such text")
	l := startLoad(t, ns, "wire", lab.nodes[0], "-mode=tcp", "-workers=1", "-rate=10", "-calls=25", "-for=20s", "-to="+service)
	var ips []struct{ IP string }
	if err := json.Unmarshal([]byte(lab.kubectl(t, "-n", ns, "get", "pod", "wire", "-o", "jsonpath={.status.podIPs}")), &ips); err != nil || len(ips) != 2 {
		t.Fatalf("addresses of the client: %v, %v", ips, err)
	}
	client := netip.MustParseAddr(ips[1].IP)
	mustFlawless(t, "by the service's IPv6 address", l.wait(t, 60*time.Second), 25)
	opened := 0
	for node, s := range seen() {
		for _, o := range s.Opened {
			src, dst := netip.MustParseAddrPort(o.Src), netip.MustParseAddrPort(o.Dst)
			if src.Addr() != client || dst.Port() == 53 {
				continue
			}
			opened++
			if dst != netip.AddrPortFrom(server, 9000) {
				t.Errorf("%s at %s: a connection from %s to %s, want one to %s, port 9000", node, o.Where, src, dst, server)
			}
		}
	}
	if opened < 25 {
		t.Errorf("%d connections were seen on the wire", opened)
	}
}
