package identity

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rotating runs a Rotator in the bubble until the test ends.
func rotating(t *testing.T, renew func(context.Context) (*certificate, error)) *Rotator {
	ctx, cancel := context.WithCancel(context.Background())
	r := NewRotator(RotatorConfig{Renew: renew})
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRenewalAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, _ := newCA(t, "td")
		var at []time.Time
		r := rotating(t, func(context.Context) (*certificate, error) {
			at = append(at, time.Now())
			return ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: 4 * time.Hour})
		})
		time.Sleep(24 * time.Hour) // synctest: no real time
		synctest.Wait()
		if len(at) < 9 || len(at) > 16 {
			t.Fatalf("%d renewals in a day", len(at))
		}
		same := true
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < 90*time.Minute || gap > 150*time.Minute {
				t.Errorf("renewed after %v", gap)
			} else if i > 1 && gap != at[1].Sub(at[0]) {
				same = false
			}
		}
		if same {
			t.Error("no jitter")
		}
		if _, err := r.Certificate(); err != nil {
			t.Error(err)
		}
	})
}

func TestACertificateIsKeptWhileItIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, _ := newCA(t, "td")
		var fails atomic.Bool
		var tries atomic.Int32
		r := rotating(t, func(context.Context) (*certificate, error) {
			if fails.Load() {
				tries.Add(1)
				return nil, errors.New("controller is away")
			}
			return ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: time.Hour})
		})
		synctest.Wait()
		<-r.Changed()
		first, err := r.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		fails.Store(true)
		time.Sleep(59 * time.Minute) // synctest: no real time
		synctest.Wait()
		if c, err := r.Certificate(); err != nil || c != first {
			t.Errorf("valid certificate was not kept: %v", err)
		}
		if n := tries.Load(); n < 20 || n > 80 {
			t.Errorf("%d tries in half an hour", n)
		}
		time.Sleep(2 * time.Minute) // synctest: no real time
		if _, err := r.Certificate(); !errors.Is(err, ErrNoCertificate) {
			t.Errorf("expired certificate handed out: %v", err)
		}
		fails.Store(false)
		time.Sleep(2 * time.Minute) // synctest: no real time
		synctest.Wait()
		if _, err := r.Certificate(); err != nil {
			t.Errorf("not renewed after the outage: %v", err)
		}
	})
}

func TestRenewNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, _ := newCA(t, "td")
		n := 0
		r := rotating(t, func(context.Context) (*certificate, error) {
			n++
			return ca.Issue(Request{ID: account(t, "td", "a", "b"), TTL: time.Hour})
		})
		synctest.Wait()
		r.Renew()
		synctest.Wait()
		if n != 2 {
			t.Errorf("renewed %d times", n)
		}
	})
}

func TestAHangingRenewalIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		rotating(t, func(ctx context.Context) (*certificate, error) {
			n++
			<-ctx.Done()
			return nil, ctx.Err()
		})
		time.Sleep(time.Minute) // synctest: no real time
		synctest.Wait()
		if n < 3 {
			t.Errorf("%d tries in a minute", n)
		}
	})
}
