// Command bot votes in the vote example, and says every second how that went.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/examples/vote/bot"
)

func main() { os.Exit(vote.Main("bot", run)) }

func run(ctx context.Context, log *slog.Logger) error {
	frontAddr := flag.String("front", vote.Env("FRONT_ADDR", "front:80"), "address of the front (FRONT_ADDR)")
	rate := flag.String("rate", vote.Env("RATE", "10"), "requests per second (RATE)")
	workers := flag.Int("workers", 4, "requests at one time")
	timeout := flag.Duration("timeout", 5*time.Second, "wait for one answer")
	duration := flag.Duration("for", 0, "stop after this time; 0: go on until stopped")
	flag.Parse()

	perSecond, err := strconv.ParseFloat(*rate, 64)
	if err != nil || perSecond <= 0 {
		return fmt.Errorf("rate %q: a number above 0 is needed", *rate)
	}
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	log.Info("voting", "front", *frontAddr, "rate", perSecond)
	return bot.New(bot.Config{
		Front: *frontAddr, Rate: perSecond, Workers: *workers, Timeout: *timeout, Out: os.Stdout,
	}).Run(ctx)
}
