package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"fairlead.io/fairlead/internal/compile"
)

// SourceConfig configures a Source.
type SourceConfig struct {
	Client         kubernetes.Interface
	Custom         dynamic.Interface // for routes and policies; without it none are followed
	Namespace      string            // ours
	IssuerSecret   string
	RootsConfigMap string
	LookAgain      time.Duration // for kinds that the cluster does not have: 10 s
	Log            *slog.Logger
}

// Source keeps what the cluster's API server tells of the objects that matter. It does so in standbys too, so that
// one that comes to lead has everything at hand.
type Source struct {
	cfg     SourceConfig
	client  kubernetes.Interface
	mirrors []*mirror
	synced  chan struct{} // closed when everything has been read once
	trust   chan struct{} // holds one; issuer or roots may have changed
	changed chan struct{} // holds one; there is something to take

	mu      sync.Mutex // protects what follows
	objects map[compile.Key]any
	pending map[compile.Key]bool // what has changed since it was taken; nil while nobody takes
	events  map[compile.Kind]uint64
}

// NewSource makes a Source; Run fills it.
func NewSource(cfg SourceConfig) *Source {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.LookAgain == 0 {
		cfg.LookAgain = 10 * time.Second
	}
	s := &Source{
		cfg: cfg, client: cfg.Client,
		synced: make(chan struct{}), trust: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		objects: map[compile.Key]any{}, events: map[compile.Kind]uint64{},
	}
	for _, r := range resources(cfg.Client, cfg) {
		s.mirrors = append(s.mirrors, &mirror{resource: r, source: s})
	}
	if cfg.Custom != nil {
		for _, c := range customs(cfg.Custom, cfg.LookAgain) {
			s.mirrors = append(s.mirrors, &mirror{resource: &c.resource, source: s, custom: c})
		}
	}
	return s
}

// Run follows the cluster until the context ends.
func (s *Source) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, m := range s.mirrors {
		all.Go(func() { m.follow(ctx) })
	}
	all.Wait()
	return nil
}

// Synced is closed when everything has been read once.
func (s *Source) Synced() <-chan struct{} { return s.synced }

// Pending says what has not been read yet, and why.
func (s *Source) Pending() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, m := range s.mirrors {
		switch {
		case m.synced:
		case m.err != nil:
			out = append(out, fmt.Sprintf("%s (%v)", m, m.err))
		default:
			out = append(out, m.String())
		}
	}
	return out
}

// Problems are the requests that fail, though what was read before stays in force.
func (s *Source) Problems() []compile.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []compile.Problem
	for _, m := range s.mirrors {
		if m.err != nil {
			out = append(out, compile.Problem{Object: m.String(), Err: m.err})
		}
	}
	return out
}

// fares remembers how the last request of a resource went, and logs when that turns: what fails as a watch is tried
// as a list at once, so that the texts alternate.
func (s *Source) fares(m *mirror, verb string, err error) {
	if errors.Is(err, context.Canceled) {
		err = nil // it was this controller that ended it
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", verb, err)
	}
	s.mu.Lock()
	before := m.err
	m.err = err
	s.mu.Unlock()
	switch {
	case err != nil && (before == nil || apierrors.ReasonForError(before) != apierrors.ReasonForError(err)):
		s.cfg.Log.Warn("cluster not read", "what", m.String(), "err", err)
	case err == nil && before != nil:
		s.cfg.Log.Info("cluster read again", "what", m.String())
	}
}

func (s *Source) put(k compile.Key, object any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[k] = object
	s.note(k)
}

func (s *Source) drop(k compile.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, k)
	s.note(k)
}

// replace exchanges all objects of a resource.
func (s *Source) replace(m *mirror, objects map[compile.Key]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.objects {
		if _, there := objects[k]; !there && m.owns(k) {
			delete(s.objects, k)
			s.note(k)
		}
	}
	for k, o := range objects {
		s.objects[k] = o
		s.note(k)
	}
	if m.synced {
		return
	}
	m.synced = true
	if !slices.ContainsFunc(s.mirrors, func(m *mirror) bool { return !m.synced }) {
		close(s.synced)
	}
}

// note remembers that an object has changed. The caller holds the mutex.
func (s *Source) note(k compile.Key) {
	s.events[k.Kind]++
	if k.Kind == secret || k.Kind == configMap && k.Name != LeaveConfigMap {
		poke(s.trust)
	}
	if s.pending != nil {
		s.pending[k] = true
		poke(s.changed)
	}
}

// begin has everything taken at first, and changes from then on.
func (s *Source) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = make(map[compile.Key]bool, len(s.objects))
	for k := range s.objects {
		s.pending[k] = true
	}
}

// end forgets that somebody took changes.
func (s *Source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = nil
}

// take returns what has changed since the last time, each object once and as it is now, and whether all are to
// leave the mesh.
func (s *Source) take() (set []compile.Object, gone []compile.Key, leave bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.pending {
		if k.Kind == secret || k.Kind == configMap {
			continue
		}
		if o, there := s.objects[k]; there {
			set = append(set, compile.Object{Key: k, Value: o})
			continue
		}
		gone = append(gone, k)
	}
	s.pending = map[compile.Key]bool{}
	_, leave = s.objects[compile.Key{Kind: configMap, Namespace: s.cfg.Namespace, Name: LeaveConfigMap}]
	return set, gone, leave
}

// issuer and roots are the Secret and the ConfigMap; nil if there is none.
func (s *Source) issuer() *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, _ := s.objects[compile.Key{Kind: secret, Namespace: s.cfg.Namespace, Name: s.cfg.IssuerSecret}].(*corev1.Secret)
	return o
}

func (s *Source) roots() *corev1.ConfigMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, _ := s.objects[compile.Key{Kind: configMap, Namespace: s.cfg.Namespace, Name: s.cfg.RootsConfigMap}].(*corev1.ConfigMap)
	return o
}

// object is one of a custom kind, as it was told last; nil if there is none or it could not be read.
func (s *Source) object(k compile.Key) metav1.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, _ := s.objects[k].(metav1.Object)
	return o
}

// customOf is how the cluster calls a custom kind, and the version in which it is followed; "" if the cluster has none now.
func (s *Source) customOf(kind compile.Kind) (c *custom, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mirrors {
		if m.custom != nil && m.custom.customKind.kind == kind {
			return m.custom, m.version
		}
	}
	return nil, ""
}

// serving notes in which version a custom kind is followed.
func (s *Source) serving(m *mirror, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.version = version
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
