package system

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fairlead.io/fairlead/internal/testnet"
)

// lockedBuffer takes what a program prints while it runs.
type lockedBuffer struct {
	sync.Mutex // protects b
	b          bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.Lock()
	defer l.Unlock()
	return l.b.String()
}

// TestSSH runs a command and takes 5 MB there and back. The server speaks first, and so does the client.
func TestSSH(t *testing.T) {
	programs := needs(t, "sshd", "ssh", "ssh-keygen")
	if _, err := os.Stat("/run/sshd"); errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove("/run/sshd") })
	}
	m, client, server, vip := serverPair(t, 22)
	dir := workDir(t, 0, 0)
	for _, key := range []string{"host", "user"} {
		mustRun(t, client, testnet.Command{Path: programs[2], Args: []string{"-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)}})
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(dir, "known")
	if err := os.WriteFile(known, fmt.Appendf(nil, "%s %s", vip.Addr(), host), 0o600); err != nil {
		t.Fatal(err)
	}
	mustStart(t, server, testnet.Command{Path: programs[0], Log: "sshd.log", Args: []string{"-D", "-e", "-f", "/dev/null", "-h", filepath.Join(dir, "host"),
		"-o", "Port=22", "-o", "UsePAM=no", "-o", "PermitRootLogin=prohibit-password", "-o", "PasswordAuthentication=no", "-o", "StrictModes=no",
		"-o", "PidFile=none", "-o", "UseDNS=no", "-o", "AuthorizedKeysFile=" + filepath.Join(dir, "user.pub")}})
	listening(t, server, "127.0.0.1:22")
	ssh := func(stdin []byte, command string) string {
		t.Helper()
		return mustRun(t, client, testnet.Command{Path: programs[1], Stdin: bytes.NewReader(stdin), Args: []string{"-F", "/dev/null", "-i", filepath.Join(dir, "user"),
			"-o", "UserKnownHostsFile=" + known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
			"root@" + vip.Addr().String(), command}})
	}
	viaMesh(t, m, client, server, func() {
		if got := strings.Fields(ssh(nil, "hostname; echo $SSH_CLIENT")); len(got) < 2 || got[0] != server.Name || got[1] != client.Addr(4).String() {
			t.Errorf("on host and from: %q, want %s and %s", got, server.Name, client.Addr(4))
		}
		body := make([]byte, 5<<20)
		rand.Read(body)
		if got := ssh(body, "cat"); got != string(body) {
			t.Errorf("%d bytes came back of %d", len(got), len(body))
		}
	})
}
