package bot

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Faulty is the choice whose votes fail by design.
const Faulty = "doughnut"

// Counts is one line of the bot's output. All numbers are since the start.
type Counts struct {
	Time  time.Time `json:"time"`
	Total uint64    `json:"total"`
	OK    uint64    `json:"ok"`
	// Failed are votes that the ballot itself refused (the front's status 500), by choice.
	Failed map[string]uint64 `json:"failed"`
	// Other is every other failure by what was asked and what came of it: "vote 503", "list refused",
	// and "vote foreign 502" when the answer came from something between bot and front.
	Other map[string]uint64 `json:"other"`
	// Unexpected is everything that should not happen: all of Other, and Failed but for the doughnut.
	Unexpected uint64 `json:"unexpected"`
	LastError  string `json:"lastError,omitempty"` // the text of the last error without an answer
	// Served counts good answers by the instance behind the front: "list catalog-2".
	Served map[string]uint64 `json:"served"`
}

// maxKeys bounds each map: instances come and go, and the bot is long-lived.
const maxKeys = 256

type tally struct {
	mu     sync.Mutex
	counts Counts // mu protects it
}

func (t *tally) add(what, choice string, r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counts
	c.Total++
	switch {
	case r.err != nil:
		c.LastError = r.err.Error()
		c.Unexpected++
		add(&c.Other, what+" "+kind(r.err))
	case r.foreign:
		c.Unexpected++
		add(&c.Other, what+" foreign "+strconv.Itoa(r.status))
	case r.status == http.StatusOK:
		c.OK++
		add(&c.Served, what+" "+r.servedBy)
	case what == "vote" && r.status == http.StatusInternalServerError:
		if choice != Faulty {
			c.Unexpected++
		}
		add(&c.Failed, choice)
	default:
		c.Unexpected++
		add(&c.Other, what+" "+strconv.Itoa(r.status))
	}
}

func add(m *map[string]uint64, key string) {
	if *m == nil {
		*m = make(map[string]uint64)
	}
	if _, known := (*m)[key]; !known && len(*m) >= maxKeys {
		key = "more"
	}
	(*m)[key]++
}

func (t *tally) snapshot() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.Time = time.Now().UTC()
	c.Failed, c.Other, c.Served = clone(c.Failed), clone(c.Other), clone(c.Served)
	return c
}

// clone never returns nil, so that JSON has {} and not null.
func clone(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return maps.Clone(m)
}

// kind puts an error in one of few words.
func kind(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "error"
}
