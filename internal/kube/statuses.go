package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"fairlead.io/fairlead/internal/compile"
)

// StatusesConfig configures Statuses.
type StatusesConfig struct {
	Client dynamic.Interface
	Source *Source
	World  *compile.World
	// Pace is the time between two writes, Retry that before the first repetition of one that failed, which doubles up to 60
	// times as much: 20 ms and 1 s.
	Pace, Retry time.Duration
	Now         func() time.Time // time.Now
	Log         *slog.Logger
}

// Statuses writes what became of routes and policies into their status. It is for the controller that leads. What stands
// there already is not written again; what other controllers have written stays.
type Statuses struct {
	cfg StatusesConfig
	due map[compile.Key]*attempt // each object once
}

// attempt is a status that is to be written.
type attempt struct {
	at   time.Time
	wait time.Duration // before the next one
	last string        // error that was logged
}

// NewStatuses makes a writer; Run works it.
func NewStatuses(cfg StatusesConfig) *Statuses {
	if cfg.Pace == 0 {
		cfg.Pace = 20 * time.Millisecond
	}
	if cfg.Retry == 0 {
		cfg.Retry = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Statuses{cfg: cfg, due: map[compile.Key]*attempt{}}
}

// Run writes until the context ends.
func (s *Statuses) Run(ctx context.Context) error {
	var routes, policies uint64
	for {
		routesChange, policiesChange := s.cfg.World.RouteStatusesChanged(), s.cfg.World.PolicyStatusesChanged()
		var changedRoutes []compile.RouteStatus
		var changedPolicies []compile.PolicyStatus
		changedRoutes, routes = s.cfg.World.RouteStatuses(routes)
		changedPolicies, policies = s.cfg.World.PolicyStatuses(policies)
		for i := range changedRoutes {
			s.queue(changedRoutes[i].Key)
		}
		for i := range changedPolicies {
			s.queue(changedPolicies[i].Key)
		}
		next := s.work(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-routesChange:
		case <-policiesChange:
		case <-next:
		}
	}
}

func (s *Statuses) queue(k compile.Key) { s.due[k] = &attempt{at: s.cfg.Now()} }

// work writes one of those that are due, and returns when to come again; never if nothing waits.
func (s *Statuses) work(ctx context.Context) <-chan time.Time {
	if len(s.due) == 0 {
		return nil
	}
	keys := slices.Collect(maps.Keys(s.due))
	k := slices.MinFunc(keys, func(a, b compile.Key) int { return s.due[a].at.Compare(s.due[b].at) })
	a := s.due[k]
	if wait := a.at.Sub(s.cfg.Now()); wait > 0 {
		return time.After(wait)
	}
	wrote, err := s.write(ctx, k)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		delete(s.due, k)
	default:
		s.later(k, a, err)
	}
	if !wrote {
		return time.After(0)
	}
	return time.After(s.cfg.Pace)
}

// later has a write that failed repeated, and tells why, once.
func (s *Statuses) later(k compile.Key, a *attempt, err error) {
	a.wait = min(max(2*a.wait, s.cfg.Retry), 60*s.cfg.Retry)
	a.at = s.cfg.Now().Add(a.wait)
	if text := err.Error(); !apierrors.IsConflict(err) && text != a.last {
		s.cfg.Log.Warn("status not written", "object", k.String(), "err", err)
		a.last = text
	}
}

// write brings the status of one object up to date, and tells whether that took a request.
func (s *Statuses) write(ctx context.Context, k compile.Key) (requested bool, err error) {
	want, there := s.wanted(k)
	if !there {
		return false, nil
	}
	known := s.cfg.Source.object(k)
	if known == nil || known.GetGeneration() != want.generation {
		return false, nil // it has gone, or a newer version is on its way, which will be told
	}
	if want.stands(known) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	api, err := s.api(k)
	if err != nil {
		return false, err
	}
	live, err := api.Get(ctx, k.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return true, fmt.Errorf("get %s: %w", k, err)
	case live.GetGeneration() != want.generation:
		return true, nil
	}
	changed, err := want.put(live, metav1.NewTime(s.cfg.Now()))
	if err != nil || !changed {
		return true, err
	}
	if _, err := api.UpdateStatus(ctx, live, metav1.UpdateOptions{FieldManager: Controller}); err != nil && !apierrors.IsNotFound(err) {
		return true, fmt.Errorf("update status of %s: %w", k, err)
	}
	return true, nil
}

var errVersion = errors.New("the cluster has no such kind any more")

func (s *Statuses) api(k compile.Key) (dynamic.ResourceInterface, error) {
	c, version := s.cfg.Source.customOf(k.Kind)
	if version == "" {
		return nil, fmt.Errorf("write status of %s: %w", k, errVersion)
	}
	return s.cfg.Client.Resource(schema.GroupVersionResource{Group: c.group, Version: version, Resource: c.customKind.resource}).Namespace(k.Namespace), nil
}

// wanted is what is to stand in an object's status; false if there is no such object.
func (s *Statuses) wanted(k compile.Key) (status, bool) {
	if k.Kind == compile.TrafficPolicy || k.Kind == compile.AuthorizationPolicy {
		p, there := s.cfg.World.PolicyStatus(k)
		return status{generation: p.Generation, conditions: p.Conditions, policy: true}, there
	}
	r, there := s.cfg.World.RouteStatus(k)
	return status{generation: r.Generation, parents: r.Parents}, there
}
