package system

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

const eximConfig = `primary_hostname = mail.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/log-%%slog
pid_file_path = %[1]s/pid
exim_user = %[2]d
exim_group = %[3]d
local_interfaces = <; 0.0.0.0 ; ::0
deliver_drop_privilege = true
daemon_smtp_ports = 2525
host_lookup =
rfc1413_query_timeout = 0s
smtp_enforce_sync = true
domainlist local_domains = test
acl_smtp_rcpt = accept
tls_advertise_hosts =
begin routers
all:
  driver = accept
  domains = +local_domains
  transport = file
begin transports
file:
  driver = appendfile
  file = %[1]s/mbox
  user = %[2]d
  group = %[3]d
`

// TestSMTP runs a server that speaks first. What the mesh adds to the wait for its greeting is less than 50 ms.
func TestSMTP(t *testing.T) {
	exim := needs(t, "exim4")[0]
	uid, gid := account(t, "Debian-exim")
	m := sharedMesh(t)
	name := unique(t, "server")
	var vips []netip.AddrPort
	for i := range 6 {
		s := testnet.Service("app", fmt.Sprint(name, i), 2525, 2525)
		s.Spec.Selector = map[string]string{"app": name}
		vips = append(vips, addService(t, m, s)[0])
	}
	server := joined(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name})
	client := joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	plain := mustAddPod(t, m.Lab.Node(1), testnet.PodSpec{Namespace: "plain", Name: name})
	plainClient := mustAddPod(t, m.Lab.Node(0), testnet.PodSpec{Namespace: "plain", Name: unique(t, "client")})
	var dirs []string
	for _, p := range []*testnet.Pod{server, plain} {
		dir := workDir(t, uid, gid)
		dirs = append(dirs, dir)
		conf := filepath.Join(dir, "conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, eximConfig, dir, uid, gid), 0o644); err != nil {
			t.Fatal(err)
		}
		mustStart(t, p, testnet.Command{Path: exim, UID: uid, GID: gid, Dir: dir, Log: p.Namespace + "-exim.log", Args: []string{"-C", conf, "-bdf", "-oX", "2525"}})
		listening(t, p, "127.0.0.1:2525")
	}
	median := func(times []time.Duration) time.Duration {
		slices.Sort(times)
		return times[len(times)/2]
	}
	var with, without, first []time.Duration
	viaMesh(t, m, client, server, func() {
		for i := range 5 {
			without = append(without, greeting(t, plainClient, netip.AddrPortFrom(plain.Addr(4), 2525)))
			first = append(first, greeting(t, client, vips[i])) // nothing is known of this service yet
			with = append(with, greeting(t, client, vips[0]))
		}
	})
	t.Logf("greeting after: without the mesh %v, first connections %v, later ones %v", without, first, with)
	if extra := median(with) - median(without); extra > 50*time.Millisecond {
		t.Errorf("the mesh adds %v to the greeting", extra)
	}
	if extra := median(first) - median(without); extra > 50*time.Millisecond {
		t.Errorf("the mesh adds %v to the greeting of first connections", extra)
	}
	sendMail(t, client, vips[5], filepath.Join(dirs[0], "mbox"))
}

// greeting is how long it takes from the call of connect to the server's first line.
func greeting(t *testing.T, p *testnet.Pod, addr netip.AddrPort) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	c, err := p.Dial(ctx, "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	took := time.Since(began)
	if err != nil || !strings.HasPrefix(line, "220 mail.test ESMTP") {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	fmt.Fprintf(c, "QUIT\r\n")
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "221") {
		t.Errorf("left with %q, %v", line, err)
	}
	return took
}

func sendMail(t *testing.T, p *testnet.Pod, addr netip.AddrPort, mbox string) {
	t.Helper()
	conn, err := p.Dial(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "mail.test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := "Subject: hello\r\n\r\n" + strings.Repeat("a line of a long letter\r\n", 40000)
	step := func(name string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	step("MAIL", c.Mail("a@test"))
	step("RCPT", c.Rcpt("b@test"))
	w, err := c.Data()
	step("DATA", err)
	_, err = w.Write([]byte(body))
	step("body", err)
	step("end of body", w.Close())
	step("QUIT", c.Quit())
	eventually(t, 10*time.Second, "the letter in the box", func() error {
		b, err := os.ReadFile(mbox)
		if err == nil && strings.Count(string(b), "a line of a long letter") != 40000 {
			err = fmt.Errorf("%d bytes of it", len(b))
		}
		return err
	})
}
