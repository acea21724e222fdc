package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"fairlead.io/fairlead/internal/redirect"
)

// simulated is a flag with features of the kernel to do without.
type simulated []string

func (s *simulated) String() string { return strings.Join(*s, ",") }

// Set takes keys of features, parted by commas.
func (s *simulated) Set(text string) error {
	for key := range strings.SplitSeq(text, ",") {
		if !slices.Contains(redirect.FeatureKeys(), key) {
			return fmt.Errorf("%q is none of %s", key, strings.Join(redirect.FeatureKeys(), ", "))
		}
		*s = append(*s, key)
	}
	return nil
}

func (s *simulated) add(set *flag.FlagSet) {
	set.Var(s, "simulate-missing", "features that this kernel is to be taken to lack, parted by commas; a test aid: "+strings.Join(redirect.FeatureKeys(), ", "))
}

// runPreflight says what the kernel lacks, everything at once.
func runPreflight(_ context.Context, args []string) error {
	set := flag.NewFlagSet("nodeproxy preflight", flag.ContinueOnError)
	var without simulated
	without.add(set)
	guard := set.Bool("guard", false, "look for what the keeper's --guard needs too")
	if err := parse(set, args); err != nil {
		return err
	}
	if err := preflight(without, *guard); err != nil {
		return err
	}
	fmt.Println("the kernel has everything that is needed")
	return nil
}

// preflight returns one line, with each feature that is missing and the version that has it: Kubernetes shows the last lines of a
// container that could not start.
func preflight(without simulated, guard bool) error {
	var missing []string
	if err := redirect.Preflight(without...); err != nil {
		missing = strings.Split(err.Error(), "\n")
	}
	if guard {
		if err := redirect.PreflightGuard(without...); err != nil {
			missing = append(missing, err.Error()+" for --guard")
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("preflight: this kernel lacks: %s", strings.Join(missing, "; "))
	}
	return nil
}

const auto = "auto"

// findHost replaces "auto" by what is found on the host, and says how the kubelet's probes will be told.
func (f *keeperFlags) findHost(log *slog.Logger) {
	probe := &f.kernel.Probe
	probe.NodeAddrs, probe.FollowAddrs = f.nodeAddrs.addrs, f.nodeAddrs.auto
	if probe.Cgroup != auto {
		return
	}
	found, err := redirect.FindKubelet(f.kernel)
	probe.Cgroup = found
	if err == nil {
		log.Info("probes of the kubelet are told by its cgroup", "cgroup", found)
		return
	}
	if len(probe.NodeAddrs) == 0 {
		probe.FollowAddrs = true
	}
	log.Warn("probes of the kubelet are told by the node's addresses and the pods' probe ports", "why", err)
}
