package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/rogpeppe/go-internal/testscript"

	"fairlead.io/fairlead/internal/cni"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cni-plugin": main})
}

// TestScripts runs the binary as a runtime does. The scripts have two commands beside the usual ones: keeper, which serves
// (ok), refuses (refuse CODE MESSAGE) or is silent (silent) and writes what it is asked to the file asked; and
// namespaces NAME=enrolled|not-enrolled ..., which writes the keeper's list.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// Sockets need short paths, and the namespace of the test itself will do for the plugin.
			dir, err := os.MkdirTemp("", "fl")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			for key, value := range map[string]string{"RUN": dir, "CNI_NETNS": "/proc/self/ns/net", "CNI_NETNS_OVERRIDE": "1",
				"CNI_PATH": "/opt/cni/bin", "CNI_IFNAME": "eth0", "CNI_CONTAINERID": "c1",
				"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_UID=u-1"} {
				env.Setenv(key, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"keeper": keeper, "namespaces": namespaces, "expand": expand},
	})
}

// handler is a keeper with one answer for everything.
type handler struct {
	asked  string
	answer error
	silent bool
}

func (h handler) CNI(ctx context.Context, r *cni.Request) error {
	text := fmt.Sprintf("%s pod=%s/%s/%s container=%s if=%s addrs=%v netns=%v valid=%v network=%s\n", r.Command, r.Pod.Namespace, r.Pod.Name,
		r.Pod.UID, r.ContainerID, r.IfName, r.Addresses, r.NetNS != nil, r.Valid, r.Network)
	if err := os.WriteFile(h.asked, []byte(text), 0o644); err != nil {
		return err
	}
	if h.silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.answer
}

func keeper(ts *testscript.TestScript, _ bool, args []string) {
	h := handler{asked: ts.MkAbs("asked")}
	switch args[0] {
	case "ok":
	case "silent":
		h.silent = true
	case "refuse":
		var code uint
		_, err := fmt.Sscan(args[1], &code)
		ts.Check(err)
		h.answer = types.NewError(code, args[2], "")
	default:
		ts.Fatalf("keeper %s", args[0])
	}
	s, err := cni.Listen(filepath.Join(ts.Getenv("RUN"), "cni.sock"), h, slog.New(slog.DiscardHandler))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ts.Defer(func() {
		cancel()
		<-done
	})
}

func namespaces(ts *testscript.TestScript, _ bool, args []string) {
	list := map[string]bool{}
	for _, arg := range args {
		name, word, _ := strings.Cut(arg, "=")
		list[name] = word == "enrolled"
	}
	ts.Check(cni.WriteNamespaces(ts.Getenv("RUN"), list))
}

// expand puts the environment into a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o644))
	}
}
