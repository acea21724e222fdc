package l7

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestNothingIsMixedUp: requests, streams and rooms are used again, while others are given up, answered early, or slow. What comes
// back to a client is what belongs to its request.
func TestNothingIsMixedUp(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2=%v", h2), func(t *testing.T) {
			c := newClusterWith(t, 2, true, func(c *Config) { c.Loops = 1 }, func(int) http.HandlerFunc { return mirror })
			var group sync.WaitGroup
			for worker := range 24 {
				client := httpClient(t, c.out, h2)
				group.Go(func() {
					dice := rand.New(rand.NewPCG(1, uint64(worker)))
					for i := range 40 {
						if err := askMirror(t.Context(), client, dice, fmt.Sprintf("%d-%d", worker, i)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
		})
	}
}

// mirror answers with what it was asked. It may answer before it has read, or only after a while.
func mirror(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	w.Header().Set("X-Id", id)
	w.Header().Set("Trailer", "X-Last")
	switch r.Header.Get("X-How") {
	case "early":
		w.WriteHeader(http.StatusTeapot)
		return
	case "slow":
		time.Sleep(time.Millisecond) // that is what is asked for
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", id, r.Header.Get("X-Own"), body)
	w.Header().Set("X-Last", id)
}

// askMirror sends one request, and may give it up.
func askMirror(ctx context.Context, client *http.Client, dice *rand.Rand, id string) error {
	how := []string{"", "", "", "early", "slow", "leave"}[dice.IntN(6)]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if how == "leave" {
		time.AfterFunc(time.Duration(dice.IntN(2000))*time.Microsecond, cancel)
	}
	body := bytes.Repeat([]byte(id), dice.IntN(3000))
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://svc.test/?id="+id, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-How", how)
	req.Header.Set("X-Own", "own-"+id)
	resp, err := client.Do(req)
	if err != nil {
		if how == "leave" || how == "early" { // net/http may be cut off within a body that nobody wants
			return nil
		}
		return fmt.Errorf("%s: %w", id, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case how == "leave" && err != nil:
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", id, err)
	case resp.Header.Get("X-Id") != id:
		return fmt.Errorf("%s got the head of %s", id, resp.Header.Get("X-Id"))
	case how == "early":
		return nil
	case resp.StatusCode != http.StatusOK || string(got) != id+" own-"+id+" "+string(body) || resp.Trailer.Get("X-Last") != id:
		return fmt.Errorf("%s: status %d, %d bytes, trailer %q", id, resp.StatusCode, len(got), resp.Trailer.Get("X-Last"))
	}
	return nil
}

// TestRequestsAreKeptWithinBounds: what is in use is not taken back, what was large is not kept, and there are not too many.
func TestRequestsAreKeptWithinBounds(t *testing.T) {
	var q requests
	x := exchange.Begin(&q, nil)
	r := x.User.(*request)
	x.Hold()
	x.Drop()
	q.turn()
	if len(q.free) != 0 {
		t.Fatal("taken back while it is held")
	}
	r.head.Fields = make([]exchange.Field, keptFields+1)
	r.upTap.kept = make([]byte, keptBody+1)
	x.Drop()
	x.Hold() // once more in the same turn
	q.turn()
	if len(q.free) != 0 {
		t.Fatal("taken back while it is held again")
	}
	x.Drop()
	q.turn()
	if len(q.free) != 1 || cap(r.head.Fields) > 0 || cap(r.upTap.kept) > 0 {
		t.Fatalf("%d kept, room for %d fields and %d bytes", len(q.free), cap(r.head.Fields), cap(r.upTap.kept))
	}
	if again := exchange.Begin(&q, nil); again != x {
		t.Error("not used again")
	}
	var many []*exchange.Exchange
	for range keptRequests + 10 {
		many = append(many, exchange.Begin(&q, nil))
	}
	for _, x := range many {
		x.Drop()
	}
	if q.turn(); len(q.free) != keptRequests {
		t.Errorf("%d kept", len(q.free))
	}
}
