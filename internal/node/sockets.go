package node

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// socketBatch is how many ready sockets the keeper is asked for at once, and so how many may lie idle per pod and
// address family.
const socketBatch = 8

// socketPool holds ready-made sockets of the pods that are enrolled. An idle socket keeps its pod's namespace alive, so
// none is kept for any other pod. Its zero value is ready.
type socketPool struct {
	mu   sync.Mutex // protects pods and what they point to
	pods map[string]*idleSockets
}

// idleSockets are one pod's, by address family, from its enrolment until it leaves.
type idleSockets map[int][]int

// keep allows idle sockets of a pod.
func (p *socketPool) keep(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pods == nil {
		p.pods = map[string]*idleSockets{}
	}
	if p.pods[uid] == nil {
		p.pods[uid] = &idleSockets{}
	}
}

// take returns a socket, from the pool or from a new batch. A pod that has left gets a single one.
func (p *socketPool) take(ctx context.Context, k Keeper, uid string, family int) (int, error) {
	fd, idle := p.pop(uid, family)
	if fd >= 0 {
		return fd, nil
	}
	n := 1
	if idle != nil {
		n = socketBatch
	}
	fds, err := k.Sockets(ctx, uid, family, n)
	if err != nil {
		return -1, err
	}
	p.push(uid, idle, family, fds[1:])
	return fds[0], nil
}

// pop returns an idle socket or -1, and where more may be kept.
func (p *socketPool) pop(uid string, family int) (int, *idleSockets) {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.pods[uid]
	if idle == nil || len((*idle)[family]) == 0 {
		return -1, idle
	}
	fds := (*idle)[family]
	(*idle)[family] = fds[:len(fds)-1]
	return fds[len(fds)-1], idle
}

// push keeps up to two batches, if the pod has not left, nor come back as another, since they were asked for.
func (p *socketPool) push(uid string, idle *idleSockets, family int, fds []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range fds {
		if idle == nil || p.pods[uid] != idle || len((*idle)[family]) >= 2*socketBatch {
			closeFD(fd)
			continue
		}
		(*idle)[family] = append((*idle)[family], fd)
	}
}

// drop closes a pod's idle sockets, and keeps none from now on.
func (p *socketPool) drop(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.pods[uid]
	if idle == nil {
		return
	}
	delete(p.pods, uid)
	for _, fds := range *idle {
		for _, fd := range fds {
			closeFD(fd)
		}
	}
}

// closeFD closes a descriptor that nothing was written to.
func closeFD(fd int) { _ = unix.Close(fd) }
