package l7

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fairlead.io/fairlead/internal/mesh"
)

// budgetSeconds is how long a request counts for retries.
const budgetSeconds = 10

// retryBudget bounds retries by the requests of the last seconds, so that those who fail are not asked much more than if they
// did not.
type retryBudget struct {
	mu    sync.Mutex // protects what follows
	ring  [budgetSeconds]budgetSecond
	floor *rate.Limiter
}

// budgetSecond is what has come in one second.
type budgetSecond struct {
	at                int64
	requests, retries int
}

func (b *retryBudget) second(now time.Time) *budgetSecond {
	at := now.Unix()
	s := &b.ring[at%budgetSeconds]
	if s.at != at {
		*s = budgetSecond{at: at}
	}
	return s
}

// request counts one.
func (b *retryBudget) request(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.second(now).requests++
}

// take tells whether there may be one more retry: they are a share of the requests, and so many a second beside.
func (b *retryBudget) take(now time.Time, share, floor float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	this := b.second(now)
	var requests, retries int
	for i := range b.ring {
		if s := &b.ring[i]; s.at > this.at-budgetSeconds {
			requests, retries = requests+s.requests, retries+s.retries
		}
	}
	if float64(retries+1) <= share*float64(requests) {
		this.retries++
		return true
	}
	if floor <= 0 {
		return false
	}
	if limit := rate.Limit(floor); b.floor == nil {
		b.floor = rate.NewLimiter(limit, int(math.Ceil(floor)))
	} else if b.floor.Limit() != limit {
		b.floor.SetLimitAt(now, limit)
		b.floor.SetBurstAt(now, int(math.Ceil(floor)))
	}
	return b.floor.AllowN(now, 1)
}

// budgetKey is whose budget it is: a rule's, which keeps it when rules are exchanged, or a service port's.
type budgetKey struct {
	service mesh.Name
	port    uint16
	route   mesh.Name
	index   int
}

// maxBudgets bounds those that are kept. Without room all begin anew.
const maxBudgets = 4096

// retryBudgets are an engine's.
type retryBudgets struct {
	mu sync.RWMutex // protects m
	m  map[budgetKey]*retryBudget
}

func (all *retryBudgets) of(key budgetKey) *retryBudget {
	all.mu.RLock()
	b := all.m[key]
	all.mu.RUnlock()
	if b != nil {
		return b
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if b = all.m[key]; b != nil {
		return b
	}
	if all.m == nil || len(all.m) >= maxBudgets {
		all.m = map[budgetKey]*retryBudget{}
	}
	b = &retryBudget{}
	all.m[key] = b
	return b
}
