package main

import (
	"context"
	"fmt"

	"fairlead.io/fairlead/internal/cni/install"
	"fairlead.io/fairlead/internal/redirect"
)

// runCleanup takes back what an instance has in the kernel, whatever became of its processes.
func runCleanup(_ context.Context, args []string) error {
	f := newFlags("cleanup")
	if err := f.parse(args); err != nil {
		return err
	}
	f.kernel.Log = f.log()
	if f.cni.confDir != "" { // before anything else: from now on no new pod waits for us
		if err := install.Uninstall(install.Config{BinDir: f.cni.binDir, ConfDir: f.cni.confDir}); err != nil {
			return fmt.Errorf("uninstall the CNI plugin: %w", err)
		}
	}
	if err := redirect.CleanUp(f.kernel); err != nil {
		return fmt.Errorf("clean up instance %s: %w", f.kernel.Instance, err)
	}
	return nil
}

// runPreflight says what the kernel lacks, everything at once.
func runPreflight(_ context.Context, args []string) error {
	f := newFlags("preflight")
	if err := f.parse(args); err != nil {
		return err
	}
	if err := redirect.Preflight(); err != nil {
		return fmt.Errorf("this kernel lacks:\n%w", err)
	}
	fmt.Println("the kernel has everything that is needed")
	return nil
}
