package keeper

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.io/fairlead/internal/cni"
	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/mesh"
)

// A pod that ran when it was captured is looked at until it has had no connection from before once; one that its ADD has
// brought, never. The proxies are told what changes, and a new one is told what is.
func TestConnectionsFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.redirect.earlier = map[string]socket.Earlier{"uid-ran": {Connections: 7, More: true}, "uid-new": {Connections: 9}}
		k := f.open()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.watchEarlier(ctx) }()
		defer func() { cancel(); <-done; k.close() }()
		p := newFakeProxy()
		(*proxyCalls)(k).Attached(p)

		outside := mesh.Enrolment{UID: "uid-ran", Name: mesh.Name{Namespace: "shop", Name: "ran"}, Account: shop}
		k.assign(&control.Assignment{Version: 1, Roots: f.bundle.PEM(), Pods: []mesh.Enrolment{outside, enrolled("new")}})
		for _, name := range []string{"ran", "new"} {
			if err := k.add(t.Context(), f.request(cni.Add, "shop", name)); err != nil {
				t.Fatal(err)
			}
		}
		k.assign(&control.Assignment{Version: 2, Roots: f.bundle.PEM(), Pods: []mesh.Enrolment{enrolled("ran"), enrolled("new")}})
		later := func(d time.Duration, want ...string) {
			t.Helper()
			time.Sleep(d) // synctest: no real time
			synctest.Wait()
			got := slices.DeleteFunc(p.all(), func(e string) bool { return !strings.HasPrefix(e, "earlier") })
			if !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		set := func(e *socket.Earlier) {
			f.redirect.mu.Lock()
			defer f.redirect.mu.Unlock()
			delete(f.redirect.earlier, "uid-ran")
			if e != nil {
				f.redirect.earlier["uid-ran"] = *e
			}
		}
		said := []string{"earlier uid-ran {Connections:7 More:true}"}
		later(0, said...) // at once
		later(time.Minute, said...)
		set(nil) // that it cannot be counted for once changes nothing
		later(time.Minute, said...)
		set(&socket.Earlier{Connections: 2})
		said = append(said, "earlier uid-ran {Connections:2 More:false}")
		later(11*time.Second, said...)

		second := newFakeProxy()
		(*proxyCalls)(k).Attached(second)
		if !second.saw("earlier uid-ran {Connections:2 More:false}") || slices.ContainsFunc(second.all(), func(e string) bool { return strings.HasPrefix(e, "earlier uid-new") }) {
			t.Errorf("a new proxy was told %q", second.all())
		}

		set(&socket.Earlier{})
		said = append(said, "earlier uid-ran {Connections:0 More:false}")
		later(11*time.Second, said...)
		set(&socket.Earlier{Connections: 5}) // which cannot be
		f.redirect.mu.Lock()
		looked := len(f.redirect.looked)
		if slices.Contains(f.redirect.looked, "uid-new") {
			t.Error("a pod that came by ADD was looked at")
		}
		f.redirect.mu.Unlock()
		later(time.Minute, said...)
		if n := len(f.redirect.looked); n != looked {
			t.Errorf("looked at %d times after the last connection had ended", n-looked)
		}
	})
}

// TestNodeWithConnectionsFromBefore has a real pod join with connections open, both ways. A keeper that comes later knows of
// them too.
func TestNodeWithConnectionsFromBefore(t *testing.T) {
	m := newMachine(t)
	m.cfg.EarlierEvery = 50 * time.Millisecond
	m.say("a: b")
	m.app(m.web, webAddr.String()+":9000")
	m.app(m.peer, peerAddr.String()+":7000")
	stop := m.keep()
	m.add()
	said, _ := m.proxy()
	wait := func(line string, times int) {
		t.Helper()
		eventually(t, "the proxy says "+line, func() bool { return said.count(line) >= times })
	}
	wait("caps 0000000000000000 uid 65534", 1)
	var before []net.Conn
	out, err := dialIn(m.web, peerAddr.String()+":7000")
	check(t, err)
	before = append(before, out)
	in, err := dialIn(m.peer, webAddr.String()+":9000")
	check(t, err)
	before = append(before, in)

	m.say("fairlead.io/mesh: enabled")
	wait("earlier aaaa-web 2 false", 1)
	after, err := dialIn(m.web, peerAddr.String()+":7000")
	check(t, err)
	defer after.Close()
	if line, err := bufio.NewReader(after).ReadString('\n'); err != nil {
		t.Fatalf("new connection: %q, %v", line, err)
	}
	wait("out 10.98.1.2:7000", 1)
	stop()
	stop = m.keep()
	wait("earlier aaaa-web 2 false", 2)

	for i, c := range before {
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil {
			t.Fatalf("connection from before: %q, %v", line, err)
		}
		fmt.Fprintln(c, "still there")
		if line, err := r.ReadString('\n'); err != nil || line != "still there\n" {
			t.Errorf("connection from before: %q, %v", line, err)
		}
		c.Close()
		wait(fmt.Sprintf("earlier aaaa-web %d false", len(before)-1-i), 1)
	}
	if n := said.count("earlier aaaa-web 3 false"); n > 0 {
		t.Error("a connection of the mesh was counted")
	}
	stop()
}
