package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet/capture"
)

// captureCommand looks at every packet of the node's devices, the pods' ends of which are among them, for a while. With
// -within only at packets between addresses of that prefix.
func captureCommand(ctx context.Context, args []string) (any, error) {
	f := flag.NewFlagSet("capture", flag.ContinueOnError)
	length := f.Duration("for", 5*time.Second, "how long")
	marker := f.String("marker", "", "a text that is looked for")
	within := f.String("within", "", "prefix that both ends are in")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *marker == "" {
		return nil, errors.New("-marker is needed")
	}
	c, err := capture.New(*marker)
	if err != nil {
		return nil, err
	}
	if *within != "" {
		prefix, err := netip.ParsePrefix(*within)
		if err != nil {
			return nil, err
		}
		c.Only(func(src, dst netip.Addr) bool { return prefix.Contains(src) && prefix.Contains(dst) })
	}
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	here := func(f func() error) error { return f() }
	for _, d := range devices {
		if d.Flags&net.FlagLoopback != 0 || d.Flags&net.FlagUp == 0 || strings.HasPrefix(d.Name, "cni") {
			continue // a bridge shows again what its ports have shown
		}
		if err := c.Attach(d.Name, here, d.Name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		return nil, err
	}
	return c.Stats(), nil
}
