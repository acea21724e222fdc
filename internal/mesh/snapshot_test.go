package mesh

import (
	"net/netip"
	"testing"
)

var (
	addr1 = netip.MustParseAddr("10.244.1.2")
	addr2 = netip.MustParseAddr("fd44:1::2")
	vip   = netip.MustParseAddr("10.96.0.10")
	web   = Name{"shop", "web"}
)

func pod(uid string, addrs ...netip.Addr) *Pod {
	return &Pod{UID: uid, Name: Name{"shop", uid}, Account: Account{"shop", uid}, Addrs: addrs}
}

func TestAnAddressBelongsToThePodAppliedLast(t *testing.T) {
	s := (&Snapshot{}).Apply(Delta{Version: 1, Pods: []*Pod{pod("a", addr1, addr2)}})
	if got := s.PodByAddr(addr1); got == nil || got.UID != "a" {
		t.Fatalf("PodByAddr = %+v", got)
	}
	// The address goes to b before a's end is known; that end must not take it from b.
	s = s.Apply(Delta{Version: 2, Pods: []*Pod{pod("b", addr1)}})
	s = s.Apply(Delta{Version: 3, GonePods: []string{"a"}})
	if got := s.PodByAddr(addr1); got == nil || got.UID != "b" {
		t.Errorf("PodByAddr = %+v, want b", got)
	}
	if got := s.PodByAddr(addr2); got != nil {
		t.Errorf("PodByAddr = %+v of a pod that is gone", got)
	}
	if s.PodByAddr(netip.MustParseAddr("::ffff:10.244.1.2")) == nil {
		t.Error("an IPv4 address is not found in its IPv6 form")
	}
}

func TestSnapshotsDoNotChange(t *testing.T) {
	one := (&Snapshot{}).Apply(Delta{Version: 1, Pods: []*Pod{pod("a", addr1)}, Services: []*Service{{Name: web, Addrs: []netip.Addr{vip}}}})
	two := one.Apply(Delta{Version: 2, GonePods: []string{"a"}, GoneServices: []Name{web}, Endpoints: []*Endpoints{{Service: web}}})
	if one.Pod("a") == nil || one.PodByAddr(addr1) == nil || one.Service(web) == nil || one.Endpoints(web) != nil || one.Version() != 1 {
		t.Error("Apply changed its receiver")
	}
	if two.Pod("a") != nil || two.Service(web) != nil || two.Endpoints(web) == nil || two.Version() != 2 {
		t.Error("Apply lost a part of the delta")
	}
	three := two.Apply(Delta{Reset: true, Version: 3, Pods: []*Pod{pod("c", addr2)}})
	if p, svc, eps := three.Counts(); p != 1 || svc != 0 || eps != 0 {
		t.Errorf("after a reset: %d pods, %d services, %d endpoints", p, svc, eps)
	}
}

func TestServiceByAddrInAllForms(t *testing.T) {
	node, external := netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("203.0.113.7")
	s := (&Snapshot{}).Apply(Delta{
		Nodes:    []*Node{{Name: "n1", Addrs: []netip.Addr{node}}},
		Services: []*Service{{Name: web, Addrs: []netip.Addr{vip, external}, Ports: []Port{{Name: "http", Number: 80, NodePort: 30080}, {Name: "grpc", Number: 81}}}},
	})
	for _, tc := range []struct {
		at      string
		service bool
		port    string
	}{
		{"10.96.0.10:80", true, "http"},
		{"10.96.0.10:81", true, "grpc"},
		{"203.0.113.7:80", true, "http"},
		{"172.30.0.11:30080", true, "http"},
		{"10.96.0.10:9999", true, ""}, // the service's address, but not its port: nobody else's either
		{"172.30.0.11:80", false, ""},
		{"10.96.0.11:80", false, ""},
	} {
		svc, port, ok := s.ServiceByAddr(netip.MustParseAddrPort(tc.at))
		if (svc != nil) != tc.service || port.Name != tc.port || ok != (tc.port != "") {
			t.Errorf("%s = %v %q %v", tc.at, svc, port.Name, ok)
		}
	}
}

func TestHostNetworkPodsOwnNoAddress(t *testing.T) {
	p := pod("host", addr1)
	p.HostNet = true
	s := (&Snapshot{}).Apply(Delta{Pods: []*Pod{p}})
	if s.PodByAddr(addr1) != nil {
		t.Error("the node's address is taken for a pod's")
	}
}

func TestAppProtocols(t *testing.T) {
	for s, want := range map[string]Protocol{"": Unknown, "http": HTTP1, "kubernetes.io/ws": HTTP1, "kubernetes.io/h2c": HTTP2, "grpc": HTTP2,
		"https": TCP, "tcp": TCP, "example.com/other": Unknown} {
		if got := ParseAppProtocol(s); got != want {
			t.Errorf("%q = %v, want %v", s, got, want)
		}
	}
}
