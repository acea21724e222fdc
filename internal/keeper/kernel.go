package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"fairlead.io/fairlead/internal/control"
	"fairlead.io/fairlead/internal/identity"
	"fairlead.io/fairlead/internal/keeper/socket"
	"fairlead.io/fairlead/internal/redirect"
)

// Kernel is the real Redirect.
type Kernel struct {
	R     *redirect.Redirect
	Guard bool // drop SYNs of raw sockets and the like at the pods' devices; Linux 6.6
}

var _ Redirect = Kernel{}

type kernelNS struct{ *redirect.NetNS }

// Addrs reads the addresses of the namespace's devices.
func (n kernelNS) Addrs() (addrs []netip.Addr, err error) {
	err = n.Do(func() error {
		found, err := net.InterfaceAddrs()
		for _, f := range found {
			prefix, parseErr := netip.ParsePrefix(f.String())
			if a := prefix.Addr(); parseErr == nil && a.IsGlobalUnicast() {
				addrs = append(addrs, a)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read addresses of network namespace: %w", err)
	}
	return addrs, nil
}

// OpenNetNS opens the namespace at a path.
func (k Kernel) OpenNetNS(path string) (NetNS, error) {
	ns, err := redirect.OpenNetNS(path)
	if err != nil {
		return nil, err
	}
	return kernelNS{ns}, nil
}

// AdoptNetNS takes a descriptor over.
func (k Kernel) AdoptNetNS(fd int) (NetNS, error) {
	ns, err := redirect.NetNSFromFD(fd)
	if err != nil {
		return nil, err
	}
	return kernelNS{ns}, nil
}

// Set captures exactly these pods.
func (k Kernel) Set(captures []Capture) error {
	pods := make([]redirect.Pod, 0, len(captures))
	for _, c := range captures {
		ns, ok := c.NetNS.(kernelNS)
		if !ok {
			return fmt.Errorf("pod %s: namespace of type %T", c.UID, c.NetNS)
		}
		pods = append(pods, redirect.Pod{UID: c.UID, NetNS: ns.NetNS, Addrs: c.Addrs, ProbePorts: c.ProbePorts, Guard: k.Guard})
	}
	_, err := k.R.Set(pods)
	return err
}

// Listeners duplicates a pod's listeners.
func (k Kernel) Listeners(uid string) ([]socket.Listener, error) {
	listeners, err := k.R.Listeners(uid)
	if errors.Is(err, redirect.ErrSuspended) {
		return nil, nil
	}
	if err != nil {
		return nil, unknownPod(err)
	}
	out := make([]socket.Listener, 0, len(listeners))
	for _, l := range listeners {
		d := socket.Out
		if l.Direction == redirect.In {
			d = socket.In
		}
		out = append(out, socket.Listener{Direction: d, Family: l.Family, FD: l.FD})
	}
	return out, nil
}

// unknownPod makes the redirect's word for it the proxy's.
func unknownPod(err error) error {
	if errors.Is(err, redirect.ErrUnknownPod) {
		return fmt.Errorf("%w: %w", socket.ErrUnknownPod, err)
	}
	return err
}

// Suspend refuses new connections.
func (k Kernel) Suspend() error { return k.R.Suspend() }

// Resume makes listeners anew.
func (k Kernel) Resume() error { return k.R.Resume() }

// Sockets makes tagged sockets in a pod.
func (k Kernel) Sockets(uid string, family, n int) ([]int, error) {
	fds, err := k.R.Sockets(uid, family, n)
	return fds, unknownPod(err)
}

// HopSocket makes a socket in a pod that bears a client's address.
func (k Kernel) HopSocket(uid string, client netip.Addr) (int, error) {
	fd, err := k.R.HopSocket(uid, client)
	return fd, unknownPod(err)
}

// Verdicts are the counters of the kernel's programs.
func (k Kernel) Verdicts() (map[string]uint64, error) { return k.R.Verdicts() }

// Earlier counts connections from before the pods' capture.
func (k Kernel) Earlier(ctx context.Context, uids []string) (map[string]socket.Earlier, error) {
	counts, err := k.R.Earlier(ctx, uids)
	out := make(map[string]socket.Earlier, len(counts))
	for uid, c := range counts {
		out[uid] = socket.Earlier{Connections: c.N, More: c.More}
	}
	return out, err
}

// Others are programs that are not ours and see every connect().
func (k Kernel) Others() ([]string, error) { return k.R.Others() }

// Sweep ends the drains of leaving pods.
func (k Kernel) Sweep() error {
	_, err := k.R.Sweep()
	return err
}

// Control makes what Config.Connect wants: the stream to the controller at addr, and its Issue call, both by mutual TLS
// with the keeper's own certificate, or by token before there is one.
func Control(addr string, cfg Config) (func(own identity.Source) (Controller, Issuer), error) {
	id, err := identity.ControllerID(cfg.Bundle.TrustDomain())
	if err != nil {
		return nil, err
	}
	return func(own identity.Source) (Controller, Issuer) {
		with := control.Target{Addr: addr, Node: cfg.Node, TLS: identity.ClientTLS(own, cfg.Bundle, identity.OnlyID(id))}
		without := control.Target{Addr: addr, Node: cfg.Node, TLS: identity.ClientTLS(nil, cfg.Bundle, identity.OnlyID(id))}
		issue := func(ctx context.Context, token string, requests []control.CertificateRequest) ([]control.Issued, []byte, error) {
			if token != "" {
				return control.Issue(ctx, without, token, requests)
			}
			return control.Issue(ctx, with, "", requests)
		}
		return control.NewPodsClient(with, cfg.Log), issue
	}, nil
}
