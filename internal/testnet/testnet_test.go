package testnet

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestPodsReachEachOther(t *testing.T) {
	lab := mustLab(t, Config{})
	pods := []*Pod{
		mustPod(t, lab.Node(0), PodSpec{Name: "a"}),
		mustPod(t, lab.Node(0), PodSpec{Name: "b"}),
		mustPod(t, lab.Node(1), PodSpec{Name: "c"}),
	}
	for _, p := range pods {
		mustServe(t, p, ":8080")
	}
	for _, from := range pods {
		for _, to := range pods {
			for _, family := range []int{4, 6} {
				addr := net.JoinHostPort(to.Addr(family).String(), "8080")
				mustAnswer(t, from, addr, fmt.Sprint(to.Name, " ", from.Addr(family)))
			}
		}
	}
	mustAnswer(t, lab.Outside(), net.JoinHostPort(pods[2].Addr(4).String(), "8080"), fmt.Sprint("c ", lab.Outside().Addrs[0]))
	mustAnswer(t, lab.Node(0), net.JoinHostPort(pods[2].Addr(6).String(), "8080"), fmt.Sprint("c ", lab.Node(0).Addrs[1]))
	start := time.Now()
	if got, err := answer(t, pods[0], "203.0.113.1:80"); err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("an address that nobody has: %q, %v, after %s", got, err, time.Since(start))
	}
}

func TestServicesLeadToReadyPods(t *testing.T) {
	lab := mustLab(t, Config{})
	client := mustPod(t, lab.Node(0), PodSpec{Name: "client"})
	web := []*Pod{
		mustPod(t, lab.Node(0), PodSpec{Name: "web-0", Labels: map[string]string{"app": "web"}}),
		mustPod(t, lab.Node(1), PodSpec{Name: "web-1", Labels: map[string]string{"app": "web"}}),
	}
	for _, p := range web {
		mustServe(t, p, ":8080")
	}
	s := Service("default", "web", 80, 8080)
	s.Spec.Type = corev1.ServiceTypeNodePort
	s, err := lab.AddService(s)
	if err != nil {
		t.Fatal(err)
	}
	for i, ip := range s.Spec.ClusterIPs {
		from := fmt.Sprint(" ", client.Addrs[i])
		mustHear(t, client, net.JoinHostPort(ip, "80"), "web-0"+from, "web-1"+from)
	}
	mustHear(t, client, "web:80", "web-0 "+client.Addr(4).String(), "web-1 "+client.Addr(4).String())
	nodePort := fmt.Sprint(s.Spec.Ports[0].NodePort)
	for i := range lab.Node(0).Addrs {
		addr := net.JoinHostPort(lab.Node(0).Addrs[i].String(), nodePort)
		// A pod of another node sees the node, for its answer must come back through it.
		mustHear(t, lab.Outside(), addr, "web-1 "+lab.Node(0).Addrs[i].String())
	}
	if err := web[1].SetReady(false); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mustAnswer(t, client, s.Spec.ClusterIP+":80", "web-0 "+client.Addr(4).String())
	}
	if err := web[1].SetReady(true); err != nil {
		t.Fatal(err)
	}
	if err := web[0].Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mustAnswer(t, client, s.Spec.ClusterIP+":80", "web-1 "+client.Addr(4).String())
	}
	mustAnswer(t, web[1], s.Spec.ClusterIP+":80", "web-1 "+lab.Node(1).podGateway(4).String())
}

// mustHear asks until each of the answers came.
func mustHear(t testing.TB, from runner, addr string, want ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	for range 60 {
		got, err := answer(t, from, addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if delete(missing, got); len(missing) == 0 {
			return
		}
	}
	t.Errorf("%s never answered %v", addr, missing)
}

func TestAProgramSeesItsPod(t *testing.T) {
	lab := mustLab(t, Config{Nodes: 1})
	if _, err := lab.AddService(Service("shop", "db", 5432, 5432)); err != nil {
		t.Fatal(err)
	}
	p := mustPod(t, lab.Node(0), PodSpec{Namespace: "shop", Name: "web-1"})
	c := role("look", "")
	c.UID, c.GID, c.Drop = 1234, 2345, true
	out, err := p.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host web-1 uid 1234 gid 2345", "10.96.0.10 db.shop db.shop.svc db.shop.svc.cluster.local db\n",
		p.Addr(4).String() + " web-1\n", "search shop.svc.cluster.local", "NoNewPrivs:\t1", "CapBnd:\t0000000000000000",
		"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	// The node's programs, and nobody else, have the node's bpffs.
	out, err = lab.Node(0).Run(t.Context(), role("look", ""))
	if err != nil || !strings.Contains(string(out), " "+lab.Node(0).BPFFS()+" ") {
		t.Errorf("no bpffs on the node: %v", err)
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), lab.Dir()) {
		t.Error("a mount of the lab is outside of it")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	lab, err := New(Config{Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	var inodes []uint64
	for i, n := range lab.Nodes() {
		p, err := n.AddPod(t.Context(), PodSpec{Name: fmt.Sprint("p", i)})
		if err != nil {
			t.Fatal(err)
		}
		mustServe(t, p, ":80")
		mustServe(t, n, ":80")
		for _, ns := range []*netNS{p.netns, n.netns} {
			var st syscall.Stat_t
			if err := syscall.Fstat(ns.fd(), &st); err != nil {
				t.Fatal(err)
			}
			// While it is held, nobody else's new namespace gets its number.
			held, err := syscall.Dup(ns.fd())
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Close(held)
			inodes = append(inodes, st.Ino)
		}
	}
	if !isUnused(t, 1) || isUnused(t, inodes[0]) {
		t.Error("isUnused does not tell")
	}
	outside, dir, cgroup := lab.Outside(), lab.Dir(), lab.Cgroup()
	if found := traces(t, dir, cgroup); len(found) < 6 {
		t.Errorf("a running lab shows only %q", found)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Run(t.Context(), role("look", "")); err == nil {
		t.Error("a closed lab ran a program")
	}
	if found := traces(t, dir, cgroup); len(found) > 0 {
		t.Errorf("left: %q", found)
	}
	for _, ino := range inodes {
		if !isUnused(t, ino) {
			t.Errorf("namespace %d is in use", ino)
		}
	}
	if err := lab.Close(); err != nil {
		t.Error("a second time:", err)
	}
}
