// Package bot is the vote example's user who never sleeps: it reads and votes through the front's HTTP API.
//
// Promises:
//  1. It goes on through every error, and counts it.
//  2. Counts add up at all times: Total = OK + the sum of Failed + the sum of Other.
//  3. It never asks faster than Rate, and has at most Workers requests under way, each with a deadline.
//  4. When Run returns, its goroutines are gone.
package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/examples/vote/front"
)

// Config is what a Bot needs.
type Config struct {
	Front   string        // address of the front, host:port
	Rate    float64       // requests per second
	Workers int           // requests at one time; default 4
	Timeout time.Duration // for one request; default 5 s
	Report  time.Duration // between two lines; default 1 s
	Out     io.Writer     // gets one line of JSON per report
}

// Bot votes and reads.
type Bot struct {
	config  Config
	client  *http.Client
	limiter *rate.Limiter
	tally   tally

	mu      sync.Mutex
	choices []string // what the last list said; mu protects it
}

// New makes a Bot. It does nothing before Run.
func New(c Config) *Bot {
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Report <= 0 {
		c.Report = time.Second
	}
	return &Bot{
		config: c,
		client: &http.Client{
			Timeout:   c.Timeout,
			Transport: &http.Transport{MaxIdleConnsPerHost: c.Workers, MaxConnsPerHost: c.Workers},
		},
		limiter: rate.NewLimiter(rate.Limit(c.Rate), 1),
	}
}

// Run asks until ctx ends, and reports a last time then.
func (b *Bot) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range b.config.Workers {
		workers.Go(func() { b.work(ctx) })
	}
	defer b.client.CloseIdleConnections()
	defer workers.Wait()
	defer cancel() // a report that cannot be written ends the workers too

	tick := time.NewTicker(b.config.Report)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := b.report(); err != nil {
				return err
			}
		case <-ctx.Done():
			workers.Wait()
			return b.report()
		}
	}
}

func (b *Bot) work(ctx context.Context) {
	for b.limiter.Wait(ctx) == nil {
		b.once(ctx)
	}
}

// once makes one request: four times in five a vote, otherwise a look at the list or the leaderboard.
func (b *Bot) once(ctx context.Context) {
	choice := b.choose()
	switch n := rand.IntN(10); {
	case choice == "" || n == 0:
		b.list(ctx)
	case n == 1:
		_, result := b.ask(ctx, http.MethodGet, "/api/leaderboard")
		b.count(ctx, "leaderboard", "", result)
	default:
		_, result := b.ask(ctx, http.MethodPost, "/api/vote?choice="+url.QueryEscape(choice))
		b.count(ctx, "vote", choice, result)
	}
}

func (b *Bot) choose() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.choices) == 0 {
		return ""
	}
	return b.choices[rand.IntN(len(b.choices))]
}

func (b *Bot) list(ctx context.Context) {
	body, result := b.ask(ctx, http.MethodGet, "/api/list")
	b.count(ctx, "list", "", result)
	var list front.List
	if err := json.Unmarshal(body, &list); err != nil || len(list.Choices) == 0 {
		return // counted above; the bot goes on with the choices it knows
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.choices = b.choices[:0]
	for _, c := range list.Choices {
		b.choices = append(b.choices, c.Shortcode)
	}
}

// result is what became of one request.
type result struct {
	err      error // no answer
	status   int
	foreign  bool // the answer is not of the front's making, but of something on the way: it lacks the marker
	servedBy string
}

// ask makes one request. The body is nil unless the front answered 200.
func (b *Bot) ask(ctx context.Context, method, path string) ([]byte, result) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+b.config.Front+path, nil)
	if err != nil {
		return nil, result{err: err}
	}
	request.Header.Set(vote.MarkerHeader, vote.Marker)
	request.Header.Set("User-Agent", "vote-bot")
	response, err := b.client.Do(request)
	if err != nil {
		return nil, result{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, result{err: err}
	}
	foreign := response.Header.Get(vote.MarkerHeader) != vote.Marker
	if foreign || response.StatusCode != http.StatusOK {
		return nil, result{status: response.StatusCode, foreign: foreign}
	}
	var answer struct {
		ServedBy string `json:"servedBy"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, result{err: fmt.Errorf("decode %s: %w", path, err)}
	}
	return body, result{status: response.StatusCode, servedBy: answer.ServedBy}
}

// count files a result, unless it was cut short by the bot's own end.
func (b *Bot) count(ctx context.Context, what, choice string, r result) {
	if r.err != nil && ctx.Err() != nil {
		return
	}
	b.tally.add(what, choice, r)
}

func (b *Bot) report() error {
	line, err := json.Marshal(b.tally.snapshot())
	if err != nil {
		return fmt.Errorf("encode counts: %w", err)
	}
	if _, err := b.config.Out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write counts: %w", err)
	}
	return nil
}
