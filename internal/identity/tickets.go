package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// keyTurn is how long a ticket key seals. It opens for resumeFor, so that every ticket lives half of that at least.
const keyTurn = resumeFor / 2

// tickets are the keys of session tickets, made when they are needed.
type tickets struct {
	mu   sync.Mutex
	made []time.Time // of each key, the newest first
	keys [][32]byte
	cfg  *tls.Config // has the keys; nothing else of it is used
}

// current is a configuration with the keys that count now: the first seals, all open.
func (t *tickets) current(now time.Time) (*tls.Config, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.made) && now.Sub(t.made[n]) < resumeFor {
		n++
	}
	fresh := n > 0 && now.Sub(t.made[0]) < keyTurn
	if fresh && n == len(t.made) {
		return t.cfg, nil
	}
	clear(t.keys[n:])
	t.made, t.keys = t.made[:n], t.keys[:n]
	if !fresh {
		var key [32]byte
		if _, err := rand.Read(key[:]); err != nil {
			return nil, fmt.Errorf("make ticket key: %w", err)
		}
		t.made, t.keys = append([]time.Time{now}, t.made...), append([][32]byte{key}, t.keys...)
	}
	if t.cfg == nil {
		t.cfg = &tls.Config{}
	}
	t.cfg.SetSessionTicketKeys(t.keys)
	return t.cfg, nil
}

// forget drops all keys.
func (t *tickets) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.keys)
	t.made, t.keys, t.cfg = nil, nil, nil
}

// seal makes the ticket of a session whose full handshake was at since.
func (t *tickets) seal(s *tls.SessionState, since, now time.Time) ([]byte, error) {
	cfg, err := t.current(now)
	if err != nil {
		return nil, err
	}
	s.Extra = append(s.Extra, stamp(since))
	return cfg.EncryptTicket(tls.ConnectionState{}, s)
}

// open returns the session of a ticket, and when its full handshake was; none for one that is not ours or too old.
func (t *tickets) open(ticket []byte, now time.Time) (*tls.SessionState, time.Time) {
	cfg, err := t.current(now)
	if err != nil {
		return nil, time.Time{}
	}
	s, err := cfg.DecryptTicket(ticket, tls.ConnectionState{})
	if err != nil || s == nil {
		return nil, time.Time{}
	}
	since, ok := stamped(s.Extra)
	if !ok || !resumable(since, now) {
		return nil, time.Time{}
	}
	return s, since
}

// resumable: a session of the future was made before the clock was set back; it counts as too old.
func resumable(since, now time.Time) bool {
	age := now.Sub(since)
	return age < resumeFor && age > -time.Minute
}

// stampID begins our entry in a session's Extra, which others may share.
var stampID = []byte("fairlead/1 ")

func stamp(since time.Time) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(stampID), uint64(since.Unix()))
}

// stamped finds the time of a stamp: exactly one.
func stamped(extra [][]byte) (since time.Time, ok bool) {
	for _, e := range extra {
		v, ours := bytes.CutPrefix(e, stampID)
		if !ours {
			continue
		}
		if ok || len(v) != 8 {
			return time.Time{}, false
		}
		since, ok = time.Unix(int64(binary.BigEndian.Uint64(v)), 0), true
	}
	return since, ok
}
