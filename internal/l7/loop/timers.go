package loop

import (
	"container/heap"
	"time"
)

// timers is a heap of what is to run, soonest first.
type timers struct{ heap timerHeap }

type timer struct {
	at    time.Time
	f     func()
	index int // in the heap; -1 when it has run or was cancelled
}

// next is when the first one is due; zero if there is none.
func (t *timers) next() time.Time {
	if len(t.heap) == 0 {
		return time.Time{}
	}
	return t.heap[0].at
}

// due takes the first timer that is due, or nil.
func (t *timers) due(now time.Time) func() {
	if len(t.heap) == 0 || t.heap[0].at.After(now) {
		return nil
	}
	return heap.Pop(&t.heap).(*timer).f
}

// After runs f on the loop after d. It and the function it returns are called on the loop only.
func (l *Loop) After(d time.Duration, f func()) (cancel func()) {
	t := &timer{at: time.Now().Add(d), f: f}
	heap.Push(&l.timers.heap, t)
	return func() {
		if t.index >= 0 {
			heap.Remove(&l.timers.heap, t.index)
		}
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
