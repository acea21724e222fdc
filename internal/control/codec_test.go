package control

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

var sameAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func full() mesh.Delta {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	name := mesh.Name{Namespace: "shop", Name: "web"}
	return mesh.Delta{
		Reset: true, Version: 7, AllEndpoints: true,
		Pods: []*mesh.Pod{{
			UID: "u", Name: name, Account: mesh.Account{Namespace: "shop", Name: "acc"}, Node: "a", Workload: "w",
			Addrs: addrs, InMesh: true, HostNet: true, Policy: mesh.PolicyAuthenticated,
		}},
		GonePods: []string{"x"}, GoneNodes: []string{"n"}, GoneServices: []mesh.Name{name}, GoneEndpoints: []mesh.Name{name},
		Nodes: []*mesh.Node{{Name: "a", Zone: "z", Addrs: addrs}},
		Services: []*mesh.Service{{
			Name: name, Addrs: addrs, Ports: []mesh.Port{{Name: "p", Number: 65535, NodePort: 30000, Protocol: mesh.HTTP2}},
			Headless: true, ExternalName: "e", Affinity: 9, LocalOnly: true,
		}},
		Endpoints: []*mesh.Endpoints{{Service: name, Ports: []mesh.PortEndpoints{{Port: "p", Endpoints: []mesh.Endpoint{{
			Addr: netip.MustParseAddrPort("[fd00::1]:80"), Node: "a", Zone: "z", Ready: true, Serving: true, Terminating: true,
		}}}}}},
	}
}

func TestADeltaSurvivesTheWire(t *testing.T) {
	raw, err := proto.Marshal(encodeDelta(full()))
	if err != nil {
		t.Fatal(err)
	}
	var m controlpb.Delta
	if err := proto.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	got, err := decodeDelta(&m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got, sameAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestAPolicyOfALaterVersionIsTheStrictest(t *testing.T) {
	for p, want := range map[controlpb.DefaultPolicy]mesh.DefaultPolicy{0: mesh.PolicyAllow, 1: mesh.PolicyAuthenticated,
		2: mesh.PolicyAudit, 3: mesh.PolicyDeny, 4: mesh.PolicyDeny, -1: mesh.PolicyDeny, 1 << 20: mesh.PolicyDeny} {
		if got := decodePolicy(p); got != want {
			t.Errorf("%d is read as %v", p, got)
		}
	}
}

func TestEnrolmentsSurviveTheWire(t *testing.T) {
	want := []mesh.Enrolment{{
		UID: "u", Name: mesh.Name{Namespace: "a", Name: "b"}, Account: mesh.Account{Namespace: "a", Name: "c"}, Workload: "w",
		Enrolled: true, ProbePorts: []uint16{1, 65535}, Drain: 30 * time.Second,
	}, {UID: "v"}}
	got, err := decodeEnrolments(encodeEnrolments(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReportsAreBounded(t *testing.T) {
	many := make([]*controlpb.Captured, maxCaptured+1)
	for name, in := range map[string][]*controlpb.Captured{
		"many":           many,
		"no uid":         {{}},
		"long uid":       {{Uid: string(make([]byte, 300))}},
		"addresses":      {{Uid: "u", Addresses: make([][]byte, maxAddrs+1)}},
		"short address":  {{Uid: "u", Addresses: [][]byte{{1, 2, 3}}}},
		"absent address": {{Uid: "u", Addresses: [][]byte{nil}}},
	} {
		if _, err := decodeCaptured(in); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func FuzzDecodeDelta(f *testing.F) {
	seed, err := proto.Marshal(encodeDelta(full()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m controlpb.Delta
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		d, err := decodeDelta(&m)
		if err != nil {
			return
		}
		again, err := decodeDelta(encodeDelta(d))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again, sameAddrs); diff != "" {
			t.Error(diff)
		}
		(&mesh.Snapshot{}).Apply(d)
	})
}
