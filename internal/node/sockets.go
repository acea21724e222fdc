package node

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// socketBatch is how many ready sockets the keeper is asked for at once, and so how many may lie idle per pod and
// address family.
const socketBatch = 8

// socketPool holds ready-made sockets per pod and family. Its zero value is ready.
type socketPool struct {
	mu    sync.Mutex // protects ready
	ready map[socketKey][]int
}

type socketKey struct {
	uid    string
	family int
}

// take returns a socket, from the pool or from a new batch.
func (p *socketPool) take(ctx context.Context, k Keeper, uid string, family int) (int, error) {
	key := socketKey{uid, family}
	if fd, ok := p.pop(key); ok {
		return fd, nil
	}
	fds, err := k.Sockets(ctx, uid, family, socketBatch)
	if err != nil {
		return -1, err
	}
	p.push(key, fds[1:])
	return fds[0], nil
}

func (p *socketPool) pop(key socketKey) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fds := p.ready[key]
	if len(fds) == 0 {
		return -1, false
	}
	p.ready[key] = fds[:len(fds)-1]
	return fds[len(fds)-1], true
}

// push keeps up to two batches; what is above is closed.
func (p *socketPool) push(key socketKey, fds []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready == nil {
		p.ready = map[socketKey][]int{}
	}
	for _, fd := range fds {
		if len(p.ready[key]) >= 2*socketBatch {
			unix.Close(fd)
			continue
		}
		p.ready[key] = append(p.ready[key], fd)
	}
}

// drop closes a pod's idle sockets: they keep its namespace alive.
func (p *socketPool) drop(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, fds := range p.ready {
		if key.uid != uid {
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
		delete(p.ready, key)
	}
}
