package socket

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sort"
	"time"

	"fairlead.io/fairlead/internal/mesh"
)

// kind is the first byte of every message; four bytes of id follow, zero for what is not answered.
type kind uint8

const (
	kindHello kind = 1

	kindSockets   kind = 16
	kindHop       kind = 17
	kindSign      kind = 18
	kindVerdicts  kind = 19
	kindSaveState kind = 20
	kindLoadState kind = 21
	kindServing   kind = 22

	kindReply   kind = 32
	kindRefusal kind = 33

	kindEnrolled    kind = 48
	kindLeft        kind = 49
	kindCertificate kind = 50
	kindRoots       kind = 51
	kindSynced      kind = 52
	kindOthers      kind = 56
	kindSuperseded  kind = 53
	kindEarlier     kind = 57
)

const headerLen = 5

var magic = []byte("FLKP")

func start(k kind, id uint32) *writer {
	w := &writer{b: make([]byte, 0, 256)}
	w.u8(uint8(k))
	w.u32(id)
	return w
}

func encodeHello() []byte {
	w := start(kindHello, 0)
	w.bytes(magic, len(magic))
	w.u16(Version)
	return w.b
}

// parseHello accepts greetings of later versions with more in them, so that the version can be told.
func parseHello(b []byte) error {
	r := &reader{b: b}
	k, _, m, v := kind(r.u8()), r.u32(), r.bytes(len(magic)), r.u16()
	if r.err != nil || k != kindHello || !bytes.Equal(m, magic) {
		return violate(BadGreeting, "not a greeting")
	}
	if v != Version {
		return violate(BadGreeting, "the peer speaks version %d of the protocol, this end %d", v, Version)
	}
	return nil
}

// request is any message of a client after its greeting. Which fields count depends on its kind.
type request struct {
	kind    kind
	id      uint32
	uid     string
	family  int
	n       int
	client  netip.Addr
	account mesh.Account
	leaf    [32]byte
	content []byte
}

// descriptors is how many descriptors come with the request.
func (q *request) descriptors() int {
	if q.kind == kindSaveState {
		return 1
	}
	return 0
}

func (q *request) encode() ([]byte, error) {
	w := start(q.kind, q.id)
	switch q.kind {
	case kindSockets:
		w.str(q.uid, maxUID)
		w.u8(uint8(q.family))
		w.u8(uint8(q.n))
	case kindHop:
		w.str(q.uid, maxUID)
		w.addr(q.client)
	case kindSign:
		w.account(q.account)
		w.b = append(w.b, q.leaf[:]...)
		w.bytes(q.content, maxContent)
	}
	return w.done()
}

// parseRequest reads what the proxy sent: hostile, until proved otherwise.
func parseRequest(b []byte) (*request, error) {
	r := &reader{b: b}
	q := &request{kind: kind(r.u8()), id: r.u32()}
	switch q.kind {
	case kindSockets:
		q.uid, q.family, q.n = r.str(maxUID), int(r.u8()), int(r.u8())
		if r.err == nil && (q.family != 4 && q.family != 6 || q.n < 1 || q.n > MaxBatch) {
			r.fail(fmt.Errorf("%d sockets of family %d", q.n, q.family))
		}
	case kindHop:
		q.uid, q.client = r.str(maxUID), r.addr()
	case kindSign:
		q.account = r.account()
		copy(q.leaf[:], r.take(len(q.leaf)))
		q.content = bytes.Clone(r.bytes(maxContent))
	case kindVerdicts, kindSaveState, kindLoadState, kindServing:
	default:
		if r.err == nil {
			return nil, violate(UnknownType, "message of type %d", q.kind)
		}
	}
	if err := r.done(); err != nil {
		return nil, &Violation{Kind: Malformed, Err: err}
	}
	return q, nil
}

// refusal codes, and the sentinel that each stands for at the client.
var refusals = map[uint8]error{1: ErrUnknownPod, 2: ErrUnknownAccount, 3: ErrLimited, 4: ErrNoState}

func encodeRefusal(id uint32, err error) []byte {
	var code uint8
	for c, sentinel := range refusals {
		if errors.Is(err, sentinel) {
			code = c
		}
	}
	text := err.Error()
	w := start(kindRefusal, id)
	w.u8(code)
	w.str(text[:min(len(text), maxText)], maxText)
	return w.b
}

func parseRefusal(body []byte) error {
	r := &reader{b: body}
	code, text := r.u8(), r.str(maxText)
	if err := r.done(); err != nil {
		return fmt.Errorf("read the keeper's refusal: %w", err)
	}
	if sentinel, ok := refusals[code]; ok {
		return fmt.Errorf("keeper: %w", sentinel)
	}
	return fmt.Errorf("keeper: %s", text)
}

func encodeVerdicts(id uint32, verdicts map[string]uint64) ([]byte, error) {
	names := make([]string, 0, len(verdicts))
	for name := range verdicts {
		names = append(names, name)
	}
	sort.Strings(names)
	w := start(kindReply, id)
	w.count(len(names), maxVerdicts)
	for _, name := range names {
		w.str(name, maxName)
		w.u64(verdicts[name])
	}
	return w.done()
}

func parseVerdicts(body []byte) (map[string]uint64, error) {
	r := &reader{b: body}
	verdicts := map[string]uint64{}
	for n := r.count(maxVerdicts); n > 0 && r.err == nil; n-- {
		name := r.str(maxName)
		verdicts[name] = r.u64()
	}
	return verdicts, r.done()
}

// event is a message of the keeper that answers nothing. Exactly one field is set.
type event struct {
	enrolled    *enrolled
	left        *left
	certificate *Certificate
	roots       *roots
	others      *others
	earlier     *earlier
	synced      bool
	superseded  bool
}

type enrolled struct {
	pod       Pod
	listeners []Listener
}

type left struct {
	uid   string
	drain time.Duration
}

type roots struct {
	trustDomain string
	pem         []byte
}

type others struct{ programs []string }

type earlier struct {
	uid   string
	count Earlier
}

func (e event) encode() ([]byte, error) {
	switch {
	case e.enrolled != nil:
		return e.enrolled.encode()
	case e.left != nil:
		w := start(kindLeft, 0)
		w.str(e.left.uid, maxUID)
		w.u64(uint64(e.left.drain))
		return w.done()
	case e.certificate != nil:
		w := start(kindCertificate, 0)
		w.account(e.certificate.Account)
		w.u64(uint64(e.certificate.NotAfter.Unix()))
		w.count(len(e.certificate.Chain), maxChain)
		for _, der := range e.certificate.Chain {
			w.bytes(der, MaxMessage-1)
		}
		return w.done()
	case e.roots != nil:
		w := start(kindRoots, 0)
		w.str(e.roots.trustDomain, maxDomain)
		w.bytes(e.roots.pem, MaxMessage-1)
		return w.done()
	}
	if e.others != nil {
		w := start(kindOthers, 0)
		w.count(len(e.others.programs), maxPrograms)
		for _, name := range e.others.programs {
			w.str(name[:min(len(name), maxText)], maxText)
		}
		return w.done()
	}
	if e.earlier != nil {
		w := start(kindEarlier, 0)
		w.str(e.earlier.uid, maxUID)
		w.u32(uint32(e.earlier.count.Connections))
		w.flag(e.earlier.count.More)
		return w.done()
	}
	if e.synced {
		return start(kindSynced, 0).done()
	}
	if e.superseded {
		return start(kindSuperseded, 0).done()
	}
	return nil, errors.New("empty event")
}

func (e *enrolled) encode() ([]byte, error) {
	w := start(kindEnrolled, 0)
	w.str(e.pod.UID, maxUID)
	w.str(e.pod.Name.Namespace, maxNamespace)
	w.str(e.pod.Name.Name, maxName)
	w.account(e.pod.Account)
	w.count(len(e.pod.Addrs), maxAddrs)
	for _, a := range e.pod.Addrs {
		w.addr(a)
	}
	w.count(len(e.listeners), maxListeners)
	for _, l := range e.listeners {
		w.u8(uint8(l.Direction))
		w.u8(uint8(l.Family))
	}
	return w.done()
}

// parseEvent reads an event. The listeners take their descriptors from fds, whose number has to match.
func parseEvent(b []byte, fds []int) (event, error) {
	r := &reader{b: b}
	k, _ := kind(r.u8()), r.u32()
	var e event
	switch k {
	case kindEnrolled:
		e.enrolled = readEnrolled(r, fds)
		fds = nil
	case kindLeft:
		e.left = &left{uid: r.str(maxUID), drain: time.Duration(r.u64() & math.MaxInt64)}
	case kindCertificate:
		e.certificate = readCertificate(r)
	case kindRoots:
		e.roots = &roots{trustDomain: r.str(maxDomain), pem: bytes.Clone(r.bytes(MaxMessage - 1))}
	case kindOthers:
		e.others = readOthers(r)
	case kindEarlier:
		e.earlier = &earlier{uid: r.str(maxUID), count: Earlier{Connections: int(r.u32()), More: r.flag()}}
	case kindSynced:
		e.synced = true
	case kindSuperseded:
		e.superseded = true
	default:
		r.fail(fmt.Errorf("message of type %d", k))
	}
	if len(fds) > 0 {
		r.fail(fmt.Errorf("%d descriptors where none belong", len(fds)))
	}
	return e, r.done()
}

func readEnrolled(r *reader, fds []int) *enrolled {
	e := &enrolled{pod: Pod{UID: r.str(maxUID)}}
	e.pod.Name = mesh.Name{Namespace: r.str(maxNamespace), Name: r.str(maxName)}
	e.pod.Account = r.account()
	for n := r.count(maxAddrs); n > 0 && r.err == nil; n-- {
		e.pod.Addrs = append(e.pod.Addrs, r.addr())
	}
	n := r.count(maxListeners)
	if n != len(fds) {
		r.fail(fmt.Errorf("%d listeners with %d descriptors", n, len(fds)))
		return e
	}
	for _, fd := range fds {
		l := Listener{Direction: Direction(r.u8()), Family: int(r.u8()), FD: fd}
		if r.err == nil && (l.Direction != Out && l.Direction != In || l.Family != 4 && l.Family != 6) {
			r.fail(fmt.Errorf("listener of %v and family %d", l.Direction, l.Family))
		}
		e.listeners = append(e.listeners, l)
	}
	return e
}

func readOthers(r *reader) *others {
	o := &others{}
	for n := r.count(maxPrograms); n > 0 && r.err == nil; n-- {
		o.programs = append(o.programs, r.str(maxText))
	}
	return o
}

func readCertificate(r *reader) *Certificate {
	c := &Certificate{Account: r.account(), NotAfter: time.Unix(int64(r.u64()), 0)}
	for n := r.count(maxChain); n > 0 && r.err == nil; n-- {
		c.Chain = append(c.Chain, bytes.Clone(r.bytes(MaxMessage-1)))
	}
	return c
}
