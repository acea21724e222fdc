package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"
)

// tickets are the keys of session tickets, made when they are needed.
type tickets struct {
	mu   sync.Mutex
	keys []ticketKey // the newest first
}

// ticketKey seals for resumeFor and opens for twice as long, so that every ticket can be used for resumeFor.
type ticketKey struct {
	made time.Time
	cfg  *tls.Config // has the key; nothing else of it is used
}

// end is when the key opens nothing any more, and so what was sealed with it has ended.
func (k ticketKey) end() time.Time { return k.made.Add(2 * resumeFor) }

// current are the keys that count now: the first seals, all open.
func (t *tickets) current(now time.Time) ([]ticketKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.keys) && now.Before(t.keys[n].end()) {
		n++
	}
	clear(t.keys[n:])
	t.keys = t.keys[:n]
	if n == 0 || now.Sub(t.keys[0].made) >= resumeFor {
		var key [32]byte
		if _, err := rand.Read(key[:]); err != nil {
			return nil, fmt.Errorf("make ticket key: %w", err)
		}
		cfg := &tls.Config{}
		cfg.SetSessionTicketKeys([][32]byte{key})
		t.keys = append([]ticketKey{{now, cfg}}, t.keys...)
	}
	return slices.Clone(t.keys), nil
}

// forget drops all keys.
func (t *tickets) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.keys)
	t.keys = nil
}

// seal makes the ticket of a session that ends at end; the zero time is of a full handshake, whose session ends with the
// key that seals it first.
func (t *tickets) seal(s *tls.SessionState, end, now time.Time) ([]byte, error) {
	keys, err := t.current(now)
	if err != nil {
		return nil, err
	}
	if end.IsZero() {
		end = keys[0].end()
	}
	s.Extra = append(s.Extra, stamp(end))
	return keys[0].cfg.EncryptTicket(tls.ConnectionState{}, s)
}

// open returns the session of a ticket and when it ends; none for one that is not ours or has ended. No session outlives a key
// that one of its tickets was sealed with: who has stolen a key, and makes tickets with it, has them no longer than the key.
func (t *tickets) open(ticket []byte, now time.Time) (*tls.SessionState, time.Time) {
	keys, err := t.current(now)
	if err != nil {
		return nil, time.Time{}
	}
	for _, k := range keys {
		s, err := k.cfg.DecryptTicket(ticket, tls.ConnectionState{})
		if err != nil || s == nil {
			continue
		}
		end, ok := stamped(s.Extra)
		if k.end().Before(end) {
			end = k.end()
		}
		// More time than there can be left means that the clock was set back.
		if left := end.Sub(now); !ok || left <= 0 || left > 2*resumeFor {
			return nil, time.Time{}
		}
		return s, end
	}
	return nil, time.Time{}
}

// stampID begins our entry in a session's Extra, which others may share.
var stampID = []byte("fairlead/1 ")

func stamp(end time.Time) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(stampID), uint64(end.Unix()))
}

// stamped finds the time of a stamp: exactly one.
func stamped(extra [][]byte) (end time.Time, ok bool) {
	for _, e := range extra {
		v, ours := bytes.CutPrefix(e, stampID)
		if !ours {
			continue
		}
		if ok || len(v) != 8 {
			return time.Time{}, false
		}
		end, ok = time.Unix(int64(binary.BigEndian.Uint64(v)), 0), true
	}
	return end, ok
}
