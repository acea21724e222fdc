package cni

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// FuzzPluginStdin gives ADD any configuration and any CNI_ARGS, with no keeper: it ends with a CNI error or prints the
// result of the plugins before, and lets only those pods start that the promises let start.
func FuzzPluginStdin(f *testing.F) {
	prev := `"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24"}]}`
	for _, namespace := range []string{"shop", "default", "kube-system", "", "../x"} {
		f.Add(`{"cniVersion":"1.1.0","name":"x","type":"fairlead-cni",`+prev+`}`, "K8S_POD_NAMESPACE="+namespace+";K8S_POD_NAME=p")
	}
	f.Add(`{"cniVersion":"0.3.1","timeout":"1x","prevResult":{"ips":[{"version":"4","address":"10.1.0.5/24","interface":7}]}}`, "")
	f.Add(`{"cniVersion":"1.0.0","systemNamespaces":null,"prevResult":null}`, "=;;=")
	dir := f.TempDir()
	if err := WriteNamespaces(dir, map[string]bool{"default": false, "shop": true}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stdin, args string) {
		conf, err := ParseConf([]byte(stdin))
		if err == nil {
			// The test must not call a keeper, nor wait for one, wherever the input says that it is.
			stdin = redirect(t, stdin, filepath.Join(dir, "none.sock"), dir)
			if stdin == "" {
				return
			}
		}
		var out bytes.Buffer
		err = Plugin{Stdout: &out}.add(&skel.CmdArgs{ContainerID: "c", IfName: "eth0", Netns: "/proc/self/ns/net", Args: args, StdinData: []byte(stdin)})
		if err == nil {
			pod, podErr := podOf(args)
			if podErr != nil || out.Len() == 0 || pod.Namespace == "shop" && !isSystem(conf.SystemNamespaces, "shop") {
				t.Fatalf("%+v starts, printing %q", pod, out.String())
			}
			return
		}
		var e *types.Error
		if !errors.As(err, &e) || out.Len() > 0 {
			t.Fatalf("error %v, printing %q", err, out.String())
		}
	})
}

// redirect makes the configuration point at a socket and a state directory of the test's.
func redirect(t *testing.T, stdin, socket, dir string) string {
	t.Helper()
	body := strings.TrimSpace(stdin)
	if !strings.HasPrefix(body, "{") || !strings.HasSuffix(body, "}") {
		return ""
	}
	comma := ","
	if strings.TrimSpace(body[1:len(body)-1]) == "" {
		comma = ""
	}
	return body[:len(body)-1] + comma + `"socket":"` + socket + `","stateDir":"` + dir + `"}`
}

// FuzzServerMessage sends any bytes with any number of descriptors over a real socket pair: every request that gets
// through is whole, and nothing stays open.
func FuzzServerMessage(f *testing.F) {
	f.Add([]byte(`{"version":1,"command":"ADD","container":"c","ifname":"eth0","pod":{"namespace":"a","name":"b"},"addresses":["10.0.0.1"]}`), uint8(1))
	f.Add([]byte(`{"version":1,"command":"GC","valid":[{"id":"c","if":"eth0"}]}`), uint8(0))
	f.Add([]byte(`{"version":1,"command":"DEL","container":"c","ifname":"eth0","budget_ms":-1}`), uint8(9))
	f.Add([]byte(`{"version":2}`), uint8(3))
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { netns.Close() })
	f.Fuzz(func(t *testing.T, message []byte, descriptors uint8) {
		if len(message) == 0 {
			return
		}
		client, server := pair(t)
		defer client.Close()
		defer server.Close()
		var oob []byte
		if n := int(descriptors % 8); n > 0 {
			fds := make([]int, n)
			for i := range fds {
				fds[i] = int(netns.Fd())
			}
			oob = syscall.UnixRights(fds...)
		}
		before := openFiles(t)
		if _, _, err := client.WriteMsgUnix(message, oob, nil); err != nil {
			return // longer than the socket's buffer
		}
		r, err := receive(server)
		switch {
		case err != nil && r != nil:
			t.Fatalf("%v with %+v", err, r)
		case err == nil:
			needs := r.Command == Add || r.Command == Check
			if needs != (r.NetNS != nil) || r.Timeout() <= 0 || r.Timeout() > maxTimeout || r.validate() != nil {
				t.Fatalf("got %+v", r)
			}
			if r.NetNS != nil {
				r.NetNS.Close()
			}
		}
		if after := openFiles(t); after > before {
			t.Fatalf("%d descriptors before, %d after", before, after)
		}
	})
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
		_ = conns[i].SetDeadline(time.Now().Add(5 * time.Second))
	}
	return conns[0], conns[1]
}
