package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/cni"
)

// addMargin is what is left of the plugin's budget when an ADD gives up, so that the answer still arrives.
const addMargin = 200 * time.Millisecond

// maxPodAddrs is what controller and proxy take of one pod.
const maxPodAddrs = 16

// CNI does what the runtime asks for.
func (k *Keeper) CNI(ctx context.Context, q *cni.Request) error {
	err := k.owner.check()
	if err == nil {
		err = k.obey(ctx, q)
	}
	if errors.Is(err, errSuperseded) {
		return fmt.Errorf("%w: %w", cni.ErrElsewhere, err)
	}
	result := "ok"
	if err != nil {
		result = "refused"
	}
	k.counters.add(fmt.Sprintf("cni_%s_%s", strings.ToLower(string(q.Command)), result), 1)
	return err
}

func (k *Keeper) obey(ctx context.Context, q *cni.Request) error {
	switch q.Command {
	case cni.Add:
		return k.add(ctx, q)
	case cni.Del:
		return k.del(q)
	case cni.Check:
		return k.check(q)
	case cni.GC:
		return k.collect(q)
	case cni.Status:
		return k.status()
	}
	return nil
}

// add captures the pod if it is to be in the mesh. It waits for the controller to name a pod that may be.
func (k *Keeper) add(ctx context.Context, q *cni.Request) error {
	ctx, cancel := context.WithTimeout(ctx, min(k.cfg.AddWait, max(q.Timeout()-addMargin, 0)))
	defer cancel()
	r, err := k.remember(q)
	if err != nil {
		return err
	}
	for {
		done, assigned, err := k.settle(r)
		if done {
			return err
		}
		select {
		case <-assigned:
		case <-ctx.Done():
			return cmp.Or(k.owner.check(), k.notNamed(q))
		}
	}
}

// remember records the sandbox. It takes the place of an earlier one of the same pod.
func (k *Keeper) remember(q *cni.Request) (*record, error) {
	if q.NetNS == nil {
		return nil, errors.New("ADD without a network namespace")
	}
	fd, err := unix.FcntlInt(q.NetNS.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate network namespace: %w", err)
	}
	ns, err := k.cfg.Redirect.AdoptNetNS(fd)
	if err != nil {
		return nil, fmt.Errorf("take network namespace: %w", err)
	}
	r, err := newRecord(q, ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	r.NetNSPath = k.seenAt(r.inode, q.NetNSPath)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.records == nil {
		return nil, errors.Join(errors.New("the keeper is ending"), ns.Close())
	}
	for _, other := range k.records {
		k.replace(other, r)
	}
	if len(r.Addrs) > maxPodAddrs {
		return nil, errors.Join(fmt.Errorf("pod with %d addresses, at most %d are kept", len(r.Addrs), maxPodAddrs), ns.Close())
	}
	k.records[r.Cookie] = r
	k.unsaved = true
	return r, nil
}

// replace drops a record in whose place the new one comes: of the same namespace, or of the same pod's earlier sandbox.
// k.mu is held.
func (k *Keeper) replace(old, r *record) {
	same := r.samePod(old)
	if old.Cookie != r.Cookie && !same {
		return
	}
	if same {
		r.inherit(old)
	}
	if same && old.Cookie == r.Cookie { // ADD once more: nothing leaves
		if old.Container == r.Container && old.IfName != r.IfName {
			r.join(old.Addrs) // one more interface; the first stands for the sandbox
			r.IfName = old.IfName
		}
		r.captured, r.told = old.captured, old.told && slices.Equal(old.Addrs, r.Addrs)
		r.starting, r.Ran, r.earlier, r.counted = old.starting, old.Ran, old.earlier, old.counted
		k.forget(old)
		return
	}
	k.drop(old)
}

// settle captures the pod or lets it pass; done is false as long as nobody has said which.
func (k *Keeper) settle(r *record) (done bool, assigned <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.records[r.Cookie] != r {
		return true, nil, errors.New("the sandbox was deleted meanwhile")
	}
	verdict := k.decide(r)
	switch {
	case verdict == pass:
		r.starting = false
		return true, nil, k.owner.act(func() error { k.save(); return nil })
	case verdict == enrol && !k.blind:
		err := k.apply()
		if errors.Is(err, errSuperseded) {
			return true, nil, err
		}
		if r.captured {
			r.starting = false
			return true, nil, nil // what failed is another pod's
		}
		return true, nil, cni.TryAgain(fmt.Sprintf("fairlead: pod %s cannot be captured yet", r.Name),
			fmt.Sprintf("%v. The runtime tries again by itself. If it lasts, see the log of the keeper in the fairlead pod of node %s.", err, k.cfg.Node))
	}
	return false, k.assigned, nil
}

func (k *Keeper) notNamed(q *cni.Request) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	enrolled := k.namespaces[q.Pod.Namespace]
	why := "its namespace is not known on this node yet"
	if enrolled {
		why = "its namespace is in the mesh, and the controller has not named the pod to this node yet"
	}
	hint := "It comes as soon as the controller has seen the pod."
	if k.assignment == nil {
		hint = "The node has not heard from the controller: look at it with kubectl -n fairlead-system get pods."
	}
	return cni.TryAgain(fmt.Sprintf("fairlead: pod %s/%s must wait: %s", q.Pod.Namespace, q.Pod.Name, why),
		"The runtime tries again by itself. "+hint)
}

// del releases the sandbox at once.
func (k *Keeper) del(q *cni.Request) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		if r.Container == q.ContainerID && r.IfName == q.IfName {
			k.drop(r)
			if err := k.apply(); err != nil {
				if errors.Is(err, errSuperseded) {
					return err
				}
				k.cfg.Log.Warn("not wholly in force", "err", err)
			}
			return nil
		}
	}
	return nil
}

// check compares the sandbox with what is in force.
func (k *Keeper) check(q *cni.Request) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.records {
		if r.Container != q.ContainerID || r.IfName != q.IfName {
			continue
		}
		if r.Enrolled && !r.captured {
			return cni.TryAgain(fmt.Sprintf("fairlead: pod %s is to be in the mesh and is not captured", r.Name), "see the log of the keeper")
		}
		return nil
	}
	if k.namespaces[q.Pod.Namespace] {
		return cni.TryAgain(fmt.Sprintf("fairlead: pod %s/%s is not known to the keeper", q.Pod.Namespace, q.Pod.Name), "its sandbox has to be made again")
	}
	return nil
}

// collect forgets the sandboxes of the network that the runtime no longer has.
func (k *Keeper) collect(q *cni.Request) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	dropped := false
	for _, r := range k.records {
		if r.Container == "" || r.Network != q.Network || slices.Contains(q.Valid, cni.Attachment{ContainerID: r.Container, IfName: r.IfName}) {
			continue
		}
		k.drop(r)
		dropped = true
	}
	if !dropped {
		return nil
	}
	return k.apply()
}

// status tells whether enrolled pods could start now.
func (k *Keeper) status() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.assignment == nil {
		return cni.TryAgain("fairlead: the node has not heard from the controller", "new pods of enrolled namespaces wait until it has")
	}
	return nil
}
