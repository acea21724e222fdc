package kube

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/kube/kubetest"
)

func newAddress(t *testing.T, s *kubetest.Server, name, ip string) *Address {
	t.Helper()
	return NewAddress(AddressConfig{
		Client: client(t, s, name), Namespace: ns, PodName: name, PodIP: netip.MustParseAddr(ip), Nodes: 9902, Admin: 9903,
		Every: 20 * time.Millisecond,
	})
}

func slice(s *kubetest.Server) string {
	return s.Text("endpointslices.discovery.k8s.io", ns, Controller)
}

func TestTheLeadersAddress(t *testing.T) {
	s := kubetest.New(t)
	stop := background(t, newAddress(t, s, "a", "10.0.0.1").Run)
	eventually(t, "published", func() bool { return strings.Contains(slice(s), `"addresses":["10.0.0.1"]`) })
	for _, want := range []string{
		`"kubernetes.io/service-name":"fairlead-controller"`, `"endpointslice.kubernetes.io/managed-by":"fairlead-controller"`,
		`"addressType":"IPv4"`, `"name":"nodes","port":9902`, `"name":"admin","port":9903`, `"ready":true`,
	} {
		if !strings.Contains(slice(s), want) {
			t.Errorf("it lacks %s: %s", want, slice(s))
		}
	}
	s.Merge("endpointslices.discovery.k8s.io", ns, Controller, `{"endpoints": []}`)
	eventually(t, "mended", func() bool { return strings.Contains(slice(s), `"addresses":["10.0.0.1"]`) })
	s.Delete("endpointslices.discovery.k8s.io", ns, Controller)
	eventually(t, "made again", func() bool { return strings.Contains(slice(s), `"addresses":["10.0.0.1"]`) })
	before := slice(s)
	reads := len(s.Requests())
	eventually(t, "looked at", func() bool { return len(s.Requests()) > reads+3 })
	if slice(s) != before {
		t.Error("written without need")
	}
	stop()

	stop = background(t, newAddress(t, s, "b", "10.0.0.2").Run)
	eventually(t, "the next leader's", func() bool { return strings.Contains(slice(s), `"addresses":["10.0.0.2"]`) })
	stop()
	background(t, newAddress(t, s, "c", "fd00::3").Run)
	eventually(t, "of the other family", func() bool {
		return strings.Contains(slice(s), `"addresses":["fd00::3"]`) && strings.Contains(slice(s), `"addressType":"IPv6"`)
	})
}

func TestAnAddressThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	s := kubetest.New(t)
	s.Fail(func(r kubetest.Request) int {
		if r.Verb == "create" {
			return http.StatusForbidden
		}
		return 0
	})
	a := newAddress(t, s, "a", "10.0.0.1")
	if err := a.publish(context.Background()); err == nil || !strings.Contains(err.Error(), "create endpoint slice") {
		t.Errorf("error %v", err)
	}
	background(t, a.Run)
	eventually(t, "tried", func() bool { return len(s.Requests()) > 4 })
	s.Fail(nil)
	eventually(t, "published", func() bool { return slice(s) != "" })
}
