package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Listeners returns duplicates of a pod's listeners: as many as it has families, twice.
// Returns ErrUnknownPod, and ErrSuspended between Suspend and Resume.
func (r *Redirect) Listeners(uid string) ([]Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.byUID(uid)
	if err != nil {
		return nil, err
	}
	if r.suspended {
		return nil, fmt.Errorf("pod %s: %w", uid, ErrSuspended)
	}
	var out []Listener
	for _, l := range p.listeners {
		l.FD, err = unix.FcntlInt(uintptr(l.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, l := range out {
				unix.Close(l.FD)
			}
			return nil, fmt.Errorf("pod %s: duplicate listener: %w", uid, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// Suspend empties every slot and closes the listeners: new connections of captured pods are refused, live ones go on.
func (r *Redirect) Suspend() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspended = true
	var errs []error
	for cookie, p := range r.pods {
		errs = append(errs, r.emptySlots(cookie), p.closeListeners())
	}
	return errors.Join(errs...)
}

// Resume makes new listeners in every captured pod.
func (r *Redirect) Resume() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspended = false
	var errs []error
	for _, p := range r.pods {
		if !p.complete {
			continue // the next Set makes them
		}
		if err := r.listen(p); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: listen: %w", p.UID, err))
		}
	}
	return errors.Join(errs...)
}

// Sockets makes n sockets in the pod, tagged and marked so that they pass the redirect, ready to be connected. The caller
// closes them.
func (r *Redirect) Sockets(uid string, family, n int) ([]int, error) {
	dom, err := domain(family)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ns, has, err := r.dialling(uid)
	if err != nil {
		return nil, err
	}
	if family == 4 && !has.v4 || family == 6 && !has.v6 {
		return nil, fmt.Errorf("pod %s: %w", uid, ErrNoFamily)
	}
	fds := make([]int, 0, n)
	err = ns.Do(func() error {
		for range n {
			fd, err := r.taggedSocket(dom, redirectFlKindFL_KIND_PROXY)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("pod %s: make sockets: %w", uid, err)
	}
	return fds, nil
}

// taggedSocket makes a socket of ours in the calling thread's namespace.
func (r *Redirect) taggedSocket(dom int, kind redirectFlKind) (int, error) {
	fd, err := unix.Socket(dom, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	mark := redirectFlMarkFL_MARK_PROXY
	if kind == redirectFlKindFL_KIND_HOP {
		mark = redirectFlMarkFL_MARK_HOP
	}
	err = r.objects.maps.FlTags.Put(uint32(fd), redirectFlTag{Kind: kind})
	if err != nil {
		err = fmt.Errorf("tag: %w", err)
	} else {
		err = setOptions(fd, []option{
			{"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(mark)},
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		})
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// HopSocket makes a socket in the pod that will be connected to the app with the client's address. It is bound to one of
// the ports 512 to 1023 in turn; if connect says EADDRNOTAVAIL, that port is in use towards the app's port already, and
// the next HopSocket has another. Returns ErrNoPort if the app's own listeners leave none.
func (r *Redirect) HopSocket(uid string, client netip.Addr) (int, error) {
	client = client.Unmap()
	if !client.IsValid() || client.IsUnspecified() || client.IsLoopback() || client.IsMulticast() || client.IsLinkLocalUnicast() {
		return -1, fmt.Errorf("hop from %v: not a client's address", client)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ns, has, err := r.dialling(uid)
	if err != nil {
		return -1, err
	}
	if client.Is4() && !has.v4 || client.Is6() && !has.v6 {
		return -1, fmt.Errorf("pod %s: hop from %v: %w", uid, client, ErrNoFamily)
	}
	fd := -1
	err = ns.Do(func() (err error) {
		fd, err = r.hopSocket(client)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("pod %s: hop from %v: %w", uid, client, err)
	}
	return fd, nil
}

func (r *Redirect) hopSocket(client netip.Addr) (int, error) {
	dom, options := unix.AF_INET, []option{{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT, 1}}
	if client.Is6() {
		dom, options = unix.AF_INET6, []option{{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}}
	}
	fd, err := r.taggedSocket(dom, redirectFlKindFL_KIND_HOP)
	if err != nil {
		return -1, err
	}
	localOnly(fd)
	// with the device lo the route is that of our table and sk_lookup sees lo; else it sees the device that has the
	// pod's address, takes the connection for one from outside, and gives it back to the proxy
	err = setOptions(fd, append(options,
		option{"SO_BINDTOIFINDEX", unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, loopback},
		option{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}))
	if err == nil {
		err = r.bindHop(fd, client)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (r *Redirect) bindHop(fd int, client netip.Addr) error {
	for range hopPorts {
		port := firstHopPort + int(r.hopPort%hopPorts)
		r.hopPort++
		var addr unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: client.As16()}
		if client.Is4() {
			addr = &unix.SockaddrInet4{Port: port, Addr: client.As4()}
		}
		err := unix.Bind(fd, addr)
		if err != unix.EADDRINUSE {
			return os.NewSyscallError("bind", err)
		}
	}
	return ErrNoPort
}
