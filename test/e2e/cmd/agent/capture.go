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
// -among only at packets between these addresses.
func captureCommand(ctx context.Context, args []string) (any, error) {
	f := flag.NewFlagSet("capture", flag.ContinueOnError)
	length := f.Duration("for", 5*time.Second, "how long")
	marker := f.String("marker", "", "a text that is looked for")
	among := f.String("among", "", "addresses, parted by commas, that both ends are of")
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
	if *among != "" {
		only := map[netip.Addr]bool{}
		for text := range strings.SplitSeq(*among, ",") {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, err
			}
			only[addr] = true
		}
		c.Only(func(src, dst netip.Addr) bool { return only[src] && only[dst] })
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
