package kube

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/kube/kubetest"
)

// candidate is a replica in an election, of which the test sees whether it leads.
type candidate struct {
	*Election
	leads  atomic.Bool
	cancel context.CancelFunc
	done   chan error
}

const (
	leaseTime = 2 * time.Second // the shortest that a Lease can say is one
	renewTime = 1200 * time.Millisecond
	retryTime = 100 * time.Millisecond
)

// run begins to stand for election. At most one of leaders leads at any time.
func run(t *testing.T, s *kubetest.Server, name string, leaders *atomic.Int32, fail error) *candidate {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{cancel: cancel, done: make(chan error, 1)}
	c.Election = NewElection(ElectionConfig{
		Client: client(t, s, name), Namespace: ns, Name: name, Duration: leaseTime, Renew: renewTime, Retry: retryTime,
	})
	lead := func(ctx context.Context) error {
		if n := leaders.Add(1); n > 1 {
			t.Errorf("%d lead at once", n)
		}
		defer leaders.Add(-1)
		c.leads.Store(true)
		defer c.leads.Store(false)
		if fail != nil {
			return fail
		}
		<-ctx.Done()
		return nil
	}
	go func() { c.done <- c.Run(ctx, lead) }()
	t.Cleanup(c.stop)
	return c
}

func (c *candidate) stop() {
	c.cancel()
	if c.done != nil {
		<-c.done
		c.done = nil
	}
}

func holder(s *kubetest.Server) string {
	return s.At("leases.coordination.k8s.io", ns, Controller, "spec.holderIdentity")
}

func TestOneLeads(t *testing.T) {
	s := kubetest.New(t)
	var leaders atomic.Int32
	a := run(t, s, "a", &leaders, nil)
	eventually(t, "a leads", a.leads.Load)
	b := run(t, s, "b", &leaders, nil)
	eventually(t, "b knows", func() bool { name, own := b.Leader(); return name == "a" && !own })
	if _, own := a.Leader(); !own || holder(s) != "a" {
		t.Errorf("the lease is %q's", holder(s))
	}
	// On its end a leader gives the lease back, and the next need not wait for it to run out.
	begin := time.Now()
	a.stop()
	if h := holder(s); h == "a" {
		t.Error("the lease was not given back")
	}
	eventually(t, "b leads", b.leads.Load)
	if d := time.Since(begin); d >= leaseTime {
		t.Errorf("b leads after %v", d)
	}
	if _, own := b.Leader(); !own {
		t.Error("b does not know that it leads")
	}
}

func TestTheLeaseIsGivenBackBeforeTheLeadEnds(t *testing.T) {
	s := kubetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	e := NewElection(ElectionConfig{Client: client(t, s, "a"), Namespace: ns, Name: "a", Duration: leaseTime, Renew: renewTime, Retry: retryTime})
	err := e.Run(ctx, func(leading context.Context) error {
		cancel()
		<-leading.Done()
		if h := holder(s); h != "" {
			t.Errorf("ended while the lease was %q's", h)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestALeaderThatCannotRenewEnds(t *testing.T) {
	s := kubetest.New(t)
	var leaders atomic.Int32
	a := run(t, s, "a", &leaders, nil)
	eventually(t, "a leads", a.leads.Load)
	b := run(t, s, "b", &leaders, nil)
	s.Fail(func(r kubetest.Request) int {
		if r.User == "a" {
			return 503
		}
		return 0
	})
	select {
	case err := <-a.done:
		if !errors.Is(err, ErrLeaseLost) {
			t.Errorf("a ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a leads on")
	}
	a.done = nil
	eventually(t, "b leads", b.leads.Load)
}

func TestALeadThatFailsGivesTheLeaseBack(t *testing.T) {
	s := kubetest.New(t)
	var leaders atomic.Int32
	broken := errors.New("no port to listen on")
	a := run(t, s, "a", &leaders, broken)
	if err := <-a.done; !errors.Is(err, broken) || errors.Is(err, ErrLeaseLost) {
		t.Errorf("error %v", err)
	}
	a.done = nil
	if h := holder(s); h != "" {
		t.Errorf("the lease is %q's", h)
	}
}

func TestAReplicaThatComesBackUnderItsNameLeadsAtOnce(t *testing.T) {
	s := kubetest.New(t)
	s.Set(fmt.Sprintf(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": %q, "name": %q},
		"spec": {"holderIdentity": "a", "leaseDurationSeconds": 3600, "renewTime": %q, "acquireTime": %[3]q}}`,
		ns, Controller, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")))
	var leaders atomic.Int32
	eventually(t, "a leads", run(t, s, "a", &leaders, nil).leads.Load)
}

func TestACandidateThatIsToldToEnd(t *testing.T) {
	s := kubetest.New(t)
	var leaders atomic.Int32
	a := run(t, s, "a", &leaders, nil)
	eventually(t, "a leads", a.leads.Load)
	b := run(t, s, "b", &leaders, nil)
	eventually(t, "b knows", func() bool { name, _ := b.Leader(); return name == "a" })
	b.cancel()
	if err := <-b.done; err != nil {
		t.Error(err)
	}
	b.done = nil
	if holder(s) != "a" {
		t.Error("b has touched the lease")
	}
}
