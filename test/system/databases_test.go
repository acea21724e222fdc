package system

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.io/fairlead/internal/testnet"
)

// account is the user that a package made for its server.
func account(t testing.TB, name string) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%v (run test/packages)", err)
	}
	if err != nil {
		t.Skipf("%v (run test/packages)", err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// serverPair is a server's pod on the second node with a service of one port, and a client's on the first.
func serverPair(t *testing.T, port int) (m *testnet.Mesh, client, server *testnet.Pod, vip netip.AddrPort) {
	m = sharedMesh(t)
	name := unique(t, "server")
	vip = addService(t, m, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "main", Port: int32(port)}}}})[0]
	server = joined(t, m, m.Lab.Node(1), testnet.PodSpec{Name: name})
	client = joined(t, m, m.Lab.Node(0), testnet.PodSpec{Name: unique(t, "client")})
	return m, client, server, vip
}

// TestMariaDB runs the server, which speaks first, and its own client.
func TestMariaDB(t *testing.T) {
	mysql := needs(t, "mariadbd", "mariadb", "mariadb-install-db")
	uid, gid := account(t, "mysql")
	m, client, server, vip := serverPair(t, 3306)
	dir := workDir(t, uid, gid)
	data := filepath.Join(dir, "data")
	mustRun(t, server, testnet.Command{Path: mysql[2], UID: uid, GID: gid, Dir: dir, Args: []string{"--no-defaults", "--datadir=" + data,
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"}})
	initial := filepath.Join(dir, "init.sql")
	if err := os.WriteFile(initial, []byte("CREATE DATABASE shop;\nCREATE USER 'app'@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON shop.* TO 'app'@'%';\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustStart(t, server, testnet.Command{Path: mysql[0], UID: uid, GID: gid, Dir: dir, Log: "mariadbd.log", Args: []string{"--no-defaults",
		"--datadir=" + data, "--socket=" + filepath.Join(dir, "s"), "--pid-file=" + filepath.Join(dir, "pid"), "--tmpdir=" + dir, "--bind-address=*", "--port=3306",
		"--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--max-allowed-packet=32M", "--init-file=" + initial}})
	listening(t, server, "127.0.0.1:3306")
	query := func(sql string, args ...string) string {
		t.Helper()
		return strings.TrimSpace(mustRun(t, client, testnet.Command{Path: mysql[1], Stdin: strings.NewReader(sql), Args: append([]string{"--no-defaults", "-h", vip.Addr().String(), "-P", "3306", "--protocol=tcp",
			"-uapp", "-psecret", "--connect-timeout=10", "--max-allowed-packet=32M", "-N", "-B", "shop"}, args...)}))
	}
	viaMesh(t, m, client, server, func() {
		if got := query("CREATE TABLE item (n INT PRIMARY KEY, body LONGTEXT); INSERT INTO item VALUES (1, 'shirt'), (2, REPEAT('x', 5000000)); SELECT n, LENGTH(body) FROM item ORDER BY n;"); got != "1\t5\n2\t5000000" {
			t.Errorf("lengths %q", got)
		}
		if got := query("SELECT body FROM item WHERE n = 2;"); got != strings.Repeat("x", 5000000) {
			t.Errorf("%d bytes of 5000000 came back", len(got))
		}
		if got, want := query("SELECT SUBSTRING_INDEX(USER(), '@', -1);"), client.Addr(4).String(); got != want {
			t.Errorf("the server sees a client at %s, want %s", got, want)
		}
		var b strings.Builder
		for i := range 300 {
			fmt.Fprintf(&b, "INSERT INTO item VALUES (%d, 'row');\n", i+10)
		}
		if got := query(b.String() + "SELECT COUNT(*) FROM item;"); got != "302" {
			t.Errorf("%s rows", got)
		}
	})
}

// TestRedis runs the server, its client and its benchmark with pipelines.
func TestRedis(t *testing.T) {
	redis := needs(t, "redis-server", "redis-cli", "redis-benchmark")
	uid, gid := account(t, "redis")
	m, client, server, vip := serverPair(t, 6379)
	mustStart(t, server, testnet.Command{Path: redis[0], UID: uid, GID: gid, Dir: workDir(t, uid, gid), Log: "redis.log",
		Args: []string{"--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--appendonly", "no", "--daemonize", "no"}})
	listening(t, server, "127.0.0.1:6379")
	cli := func(stdin string, args ...string) string {
		t.Helper()
		return strings.TrimSpace(mustRun(t, client, testnet.Command{Path: redis[1], Stdin: strings.NewReader(stdin), Args: append([]string{"-h", vip.Addr().String(), "-p", "6379"}, args...)}))
	}
	viaMesh(t, m, client, server, func() {
		if got := cli("", "PING"); got != "PONG" {
			t.Errorf("PING: %q", got)
		}
		value := strings.Repeat("0123456789abcdef", 65536)
		if got := cli(value, "-x", "SET", "big"); got != "OK" {
			t.Errorf("SET: %q", got)
		}
		if got := cli("", "GET", "big"); got != value {
			t.Errorf("%d bytes came back of %d", len(got), len(value))
		}
		if got := cli("", "CLIENT", "INFO"); !strings.Contains(got, " addr="+client.Addr(4).String()+":") {
			t.Errorf("the server's client: %s", got)
		}
		mustRun(t, client, testnet.Command{Path: redis[2], Args: []string{"-h", vip.Addr().String(), "-p", "6379", "-n", "5000", "-c", "20", "-P", "8", "-t", "set,get,lpush", "-q"}})
	})
	// What is published reaches a subscriber, who says nothing meanwhile.
	var heard lockedBuffer
	mustStart(t, client, testnet.Command{Path: redis[1], Args: []string{"-h", vip.Addr().String(), "-p", "6379", "SUBSCRIBE", "news"}, Stdout: &heard})
	eventually(t, 10*time.Second, "a subscriber", func() error {
		if got := cli("", "PUBLISH", "news", "hello"); got != "1" {
			return fmt.Errorf("%s subscribers", got)
		}
		return nil
	})
	eventually(t, 5*time.Second, "the news", func() error {
		if got := heard.String(); !strings.Contains(got, "hello") {
			return fmt.Errorf("heard %q", got)
		}
		return nil
	})
}
