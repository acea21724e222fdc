package node

import (
	"sync"
	"testing"
)

func TestSocketsThatComeLateAreClosed(t *testing.T) {
	for name, back := range map[string]bool{"after the pod left": false, "after it left and came back": true} {
		t.Run(name, func(t *testing.T) {
			k := &fakeKeeper{t: t, entered: make(chan struct{}), release: make(chan struct{})}
			var p socketPool
			p.keep("a")
			var taking sync.WaitGroup
			taking.Go(func() {
				fd, err := p.take(t.Context(), k, "a", 4)
				if err != nil {
					t.Error(err)
				}
				closeFD(fd)
			})
			<-k.entered
			p.drop("a")
			if back {
				p.keep("a")
			}
			close(k.release)
			taking.Wait()
			if n := k.open(); n != 0 || len(k.made) != socketBatch {
				t.Errorf("%d of %d sockets are open", n, len(k.made))
			}
		})
	}
}

func TestSocketsAreKeptForEnrolledPodsOnly(t *testing.T) {
	k := &fakeKeeper{t: t}
	var p socketPool
	take := func() {
		t.Helper()
		fd, err := p.take(t.Context(), k, "a", 4)
		if err != nil {
			t.Fatal(err)
		}
		closeFD(fd)
	}
	take() // a connection of a pod that drains
	if k.open() != 0 || k.asked[0] != 1 {
		t.Errorf("%d open, asked for %v", k.open(), k.asked)
	}
	p.keep("a")
	take()
	p.keep("a") // told again: nothing changes
	take()
	if k.open() != socketBatch-2 || len(k.asked) != 2 {
		t.Errorf("%d open, asked for %v", k.open(), k.asked)
	}
	p.drop("a")
	if k.open() != 0 {
		t.Errorf("%d open after the pod left", k.open())
	}
}
