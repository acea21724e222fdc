package identity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"
)

// sample is a session as a server makes them.
func sample(t testing.TB) *tls.SessionState {
	t.Helper()
	c := newCouple(t)
	var got *tls.SessionState
	c.tune = func(_, server *tls.Config) {
		wrap := server.WrapSession
		server.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
			copied := *s
			got = &copied
			return wrap(cs, s)
		}
	}
	c.well("for its session", false)
	return got
}

func TestTicketKeysTurn(t *testing.T) {
	session := sample(t)
	var keys tickets
	began := time.Now()
	seal := func(at time.Duration) []byte {
		s := *session
		return must[[]byte](t)(keys.seal(&s, time.Time{}, began.Add(at)))
	}
	opens := func(ticket []byte, at time.Duration) bool {
		s, _ := keys.open(ticket, began.Add(at))
		return s != nil
	}
	first := seal(0)
	late := seal(resumeFor - time.Second) // of the first key, too
	second := seal(resumeFor)
	for _, c := range []struct {
		name   string
		ticket []byte
		at     time.Duration
		want   bool
	}{
		{"the first", first, resumeFor, true},
		{"the first, at its end", first, 2*resumeFor - 2*time.Second, true},
		{"a late one of the first key", late, 2*resumeFor - 2*time.Second, true},
		{"... goes with its key", late, 2 * resumeFor, false},
		{"the second", second, 2 * resumeFor, true},
		{"the second, at its end", second, 3*resumeFor - 2*time.Second, true},
		{"the second, after its end", second, 3 * resumeFor, false},
	} {
		if got := opens(c.ticket, c.at); got != c.want {
			t.Errorf("%s: opened: %v, want %v", c.name, got, c.want)
		}
	}
	if n := len(keys.keys); n > 2 {
		t.Errorf("%d keys", n)
	}
	third := seal(3 * time.Hour)
	keys.forget()
	if opens(third, 3*time.Hour) {
		t.Error("opened with a key that is forgotten")
	}
}

// Who has stolen a key can put any end into a ticket; what it is resumed to ends with the key all the same.
func TestAForgedTicketEndsWithItsKey(t *testing.T) {
	session, now := sample(t), time.Now()
	var keys tickets
	stolen := must[[]ticketKey](t)(keys.current(now))[0]
	session.Extra = [][]byte{stamp(now.Add(1000 * time.Hour))}
	forged := must[[]byte](t)(stolen.cfg.EncryptTicket(tls.ConnectionState{}, session))
	late := now.Add(2*resumeFor - time.Minute)
	s, end := keys.open(forged, late)
	if s == nil || end.After(now.Add(2*resumeFor)) {
		t.Fatalf("%v until %v", s, end)
	}
	s.Extra = nil
	again := must[[]byte](t)(keys.seal(s, end, late)) // with the next key
	if s, _ := keys.open(again, late); s == nil {
		t.Error("the resumed session's ticket is none")
	}
	if s, _ := keys.open(again, now.Add(2*resumeFor)); s != nil {
		t.Error("what was forged has outlived its key")
	}
}

func TestTicketsOfOtherKeysAreNone(t *testing.T) {
	session, now := sample(t), time.Now()
	var ours, others tickets
	ticket := must[[]byte](t)(others.seal(session, time.Time{}, now))
	if s, _ := ours.open(ticket, now); s != nil {
		t.Error("another identity's ticket is taken")
	}
	// Sealed with our key, and without our stamp: crypto/tls alone would take it.
	cfg := must[[]ticketKey](t)(ours.current(now))[0].cfg
	session.Extra = nil
	ticket = must[[]byte](t)(cfg.EncryptTicket(tls.ConnectionState{}, session))
	if s, _ := ours.open(ticket, now); s != nil {
		t.Error("a session without its time is taken")
	}
}

func TestStamps(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	good := stamp(at)
	for _, c := range []struct {
		name  string
		extra [][]byte
		want  bool
	}{
		{"alone", [][]byte{good}, true},
		{"among others", [][]byte{[]byte("other/1"), good, nil}, true},
		{"none", nil, false},
		{"others only", [][]byte{[]byte("other/1"), {}}, false},
		{"short", [][]byte{good[:len(good)-1]}, false},
		{"long", [][]byte{append(bytes.Clone(good), 0)}, false},
		{"two", [][]byte{good, good}, false},
		{"another version", [][]byte{bytes.Replace(good, []byte("/1"), []byte("/2"), 1)}, false},
	} {
		if got, ok := stamped(c.extra); ok != c.want || ok && !got.Equal(at) {
			t.Errorf("%s: %v, %v", c.name, got, ok)
		}
	}
}

// FuzzTicket: what a stranger sends as a ticket opens nothing, and breaks nothing.
func FuzzTicket(f *testing.F) {
	now := time.Now()
	var keys tickets
	ticket := must[[]byte](f)(keys.seal(sample(f), time.Time{}, now))
	f.Add(ticket)
	f.Add(ticket[:len(ticket)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, end := keys.open(b, now)
		if (s != nil) != bytes.Equal(b, ticket) || s != nil && end.Unix() != now.Add(2*resumeFor).Unix() {
			t.Errorf("%x: %v until %v", b, s, end)
		}
	})
}

// FuzzStamp: a stamp is read as it was written, and nothing else is one.
func FuzzStamp(f *testing.F) {
	f.Add(stamp(time.Now()))
	f.Add(stampID)
	f.Fuzz(func(t *testing.T, b []byte) {
		at, ok := stamped([][]byte{b})
		if ok && !bytes.Equal(stamp(at), b) {
			t.Errorf("%x is taken for %v", b, at)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	leaf := newCouple(t).client.cert.Leaf
	var all Sessions
	to := func(n int) Destination {
		return Destination{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}
	}
	fill := func(n int) *Resumption {
		r := NewResumption(leaf, &all)
		for i := range n {
			all.put(r, &session{to: to(i)})
		}
		return r
	}
	busy := fill(sessionsEach + 10)
	if n := all.Len(); n != sessionsEach || all.get(busy, to(9)) != nil || all.get(busy, to(10)) == nil {
		t.Errorf("%d sessions of one, want the newest %d", n, sessionsEach)
	}
	all.put(busy, &session{to: to(sessionsEach + 10)})
	if all.get(busy, to(10)) == nil || all.get(busy, to(11)) != nil {
		t.Error("what was used last had to go")
	}
	few := fill(3)
	for range sessionsAll/sessionsEach + 1 {
		fill(sessionsEach - 5)
	}
	if n := all.Len(); n != sessionsAll {
		t.Errorf("%d sessions in all, want %d", n, sessionsAll)
	}
	if len(all.owned[few].by) != 3 {
		t.Errorf("those with many have displaced one with few: %d are left", len(all.owned[few].by))
	}
	busy.End()
	few.End()
	all.put(few, &session{to: to(1)})
	if all.owned[few] != nil || all.owned[busy] != nil {
		t.Error("one that has ended has sessions")
	}
	n := 0
	for _, l := range all.owned {
		n += len(l.by)
		if l.order.Len() != len(l.by) {
			t.Errorf("%d in order, %d by destination", l.order.Len(), len(l.by))
		}
	}
	if n != all.Len() {
		t.Errorf("%d are counted, %d are there", all.Len(), n)
	}
}

// A hello with a ticket that is too long would be taken for another's.
func TestLongTicketsAreNotKept(t *testing.T) {
	c := newCouple(t)
	c.well("for its session", false)
	_, state, err := c.all.get(c.client.resume, c.to).state.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}
	o := &offer{r: c.client.resume, to: Destination{Addr: c.to.Addr.Next()}, chain: []*x509.Certificate{c.server.cert.Leaf}, since: time.Now()}
	for size, want := range map[int]bool{maxTicket: true, maxTicket + 1: false} {
		o.Put("", must[*tls.ClientSessionState](t)(tls.NewResumptionState(make([]byte, size), state)))
		if _, ok := o.Get(""); ok != want {
			t.Errorf("%d bytes: kept: %v", size, ok)
		}
		o.Put("", nil)
	}
}
