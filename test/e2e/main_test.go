// Package e2e runs the product as its users do, on a real Kubernetes: the Helm chart, a label on a namespace, the command
// line tool, Prometheus. Without KUBECONFIG it starts a cluster of its own on this machine (test/cluster), which
// FAIRLEAD_E2E_CLUSTER and FAIRLEAD_E2E_PORT give another name and port than "lab" and 16443. For a cluster of KUBECONFIG,
// FAIRLEAD_E2E_HELM has flags of helm, and FAIRLEAD_E2E_CNI the directories of CNI configurations and of plugins.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var (
	keep = flag.Bool("keep", false, "leave the cluster up at the end, and use it if it is up")
	bin  = flag.String("bin", "../../bin", "directory with the programs that `make e2e` has built")
	dist = flag.String("images", "../../dist/images", "directory with the images that `make images` has written")
)

// lab is the cluster of all tests.
var lab *cluster

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if os.Getenv("KUBECONFIG") == "" && os.Geteuid() != 0 {
		return m.Run() // every test says what it needs
	}
	for _, dir := range []*string{bin, dist} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		*dir = abs
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var err error
	if lab, err = open(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "set up the cluster:", err)
		code = 1
	} else {
		code = m.Run()
	}
	if *keep || lab == nil {
		return code
	}
	if err := lab.close(); err != nil {
		fmt.Fprintln(os.Stderr, "take the cluster down:", err)
		return 1
	}
	return code
}

// ready skips a test for which there is no cluster, unless skipping is forbidden.
func ready(t testing.TB) {
	t.Helper()
	if lab != nil {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("root is needed, or a cluster in KUBECONFIG")
	}
	t.Skip("root is needed, or a cluster in KUBECONFIG")
}
