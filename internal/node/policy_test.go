package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/mesh"
)

var webIP = netip.MustParseAddr("10.244.1.5")

func dbRow(p mesh.DefaultPolicy) mesh.Delta {
	row := *db
	row.Policy = p
	return mesh.Delta{Pods: []*mesh.Pod{&row}}
}

func TestPlaintextIsAllowedByThePolicy(t *testing.T) {
	local := &l7.Pod{UID: db.UID, Name: db.Name, Addrs: db.Addrs}
	from := func(addr string) *l7.Arrival {
		return &l7.Arrival{Pod: local, Peer: netip.AddrPortFrom(netip.MustParseAddr(addr), 40000), Port: 3306}
	}
	w := newWorld()
	b := testBrain(w)
	check := func(when, addr string, want error) {
		t.Helper()
		if err := b.Authorize(from(addr)); !errors.Is(err, want) {
			t.Errorf("%s, from %s: %v, want %v", when, addr, err, want)
		}
	}
	own := dbIP.String()
	for _, addr := range []string{"203.0.113.7", webIP.String()} {
		check("without a table", addr, l7.ErrUndecided)
	}
	check("without a table", own, nil)
	w.apply(mesh.Delta{Pods: []*mesh.Pod{{UID: "another", Addrs: []netip.Addr{webIP}, InMesh: true}}})
	check("a table without the pod", "203.0.113.7", l7.ErrUndecided)
	w.apply(dbRow(mesh.PolicyAllow))
	check("allow", "203.0.113.7", nil)
	w.apply(dbRow(mesh.PolicyAuthenticated))
	check("authenticated", "203.0.113.7", ErrPlain)
	check("authenticated, of the mesh", webIP.String(), ErrPlain)
	check("authenticated", own, nil)
	w.apply(dbRow(mesh.PolicyAuthenticated + 7))
	check("a policy that is not known here", "203.0.113.7", ErrPlain)
	if err := b.Authorize(from("203.0.113.7")); !strings.Contains(err.Error(), "data/db ") {
		t.Errorf("does not name the workload: %v", err)
	}
}

// TestMutualTLSMeetsEveryPolicy: whoever has proved to be of the mesh is asked for nothing more.
func TestMutualTLSMeetsEveryPolicy(t *testing.T) {
	web := mesh.Account{Namespace: "shop", Name: "web"}
	a := newAuthority(t)
	cert := a.issue(web, "n1", time.Hour)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
	w := newWorld()
	w.apply(mesh.Delta{Pods: []*mesh.Pod{{UID: "web", Account: web, Node: "n1", Addrs: []netip.Addr{webIP}, InMesh: true}}})
	b := testBrain(w)
	arrival := &l7.Arrival{Pod: &l7.Pod{UID: db.UID, Addrs: db.Addrs}, Peer: netip.AddrPortFrom(webIP, 40000), TLS: &state}
	elsewhere := mesh.Delta{Authorizations: []*mesh.Authorization{{Name: mesh.Name{Namespace: "other", Name: "p"}, Action: mesh.Deny, All: "other", Rules: []mesh.AuthRule{{}}}}}
	w.apply(elsewhere)
	if err := b.Authorize(arrival); !errors.Is(err, l7.ErrUndecided) {
		t.Errorf("of a pod that nobody knows, where there are policies: %v", err)
	}
	w.apply(mesh.Delta{GoneAuthorizations: []mesh.Name{elsewhere.Authorizations[0].Name}})
	for _, d := range []mesh.Delta{{}, dbRow(mesh.PolicyAllow), dbRow(mesh.PolicyAuthenticated)} {
		w.apply(d)
		if err := b.Authorize(arrival); err != nil {
			t.Errorf("%+v: %v", d.Pods, err)
		}
	}
}

func TestDecidedWaitsForThePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		b := testBrain(w)
		local := &l7.Pod{UID: db.UID}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		b.Decided(ctx, local)
		if took := time.Since(began); took != time.Second {
			t.Errorf("without a table: waited %v", took)
		}
		for i := range 3 {
			time.AfterFunc(time.Duration(i+1)*time.Second, func() {
				w.apply([]mesh.Delta{{}, {Pods: []*mesh.Pod{{UID: "another"}}}, dbRow(mesh.PolicyAllow)}[i])
			})
		}
		began = time.Now()
		b.Decided(t.Context(), local)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("waited %v", took)
		}
	})
}
