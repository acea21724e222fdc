package e2e

import (
	"net"
	"net/netip"
	"strings"
	"testing"
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
		mustGoStraight(t, in, at(service.Spec.ClusterIPs[0], "9000"), netip.MustParseAddrPort(at(pods.Items[0].Status.PodIPs[1].IP, "9000")))
	})
}

func at(addr, port string) string { return net.JoinHostPort(addr, port) }
