package l7

import (
	"sync"
	"time"

	"fairlead.io/fairlead/internal/l7/limit"
	"fairlead.io/fairlead/internal/mesh"
)

// budgetKey is whose budget it is: a rule's, which keeps it when rules are exchanged, or a service port's.
type budgetKey struct {
	service mesh.Name
	port    uint16
	route   mesh.Name
	index   int
	// What the policy says. With another word it is another budget.
	ratio, floor float64
}

// maxBudgets bounds those that are kept. Without room all begin anew.
const maxBudgets = 4096

// retryBudgets are an engine's, of all its pods together: what they ask again is what the endpoints have to bear.
type retryBudgets struct {
	mu sync.RWMutex // protects m
	m  map[budgetKey]*limit.Budget
}

func (all *retryBudgets) of(key budgetKey, p *mesh.Retry, now time.Time) *limit.Budget {
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
		all.m = map[budgetKey]*limit.Budget{}
	}
	b = limit.NewBudget(p, now)
	all.m[key] = b
	return b
}
