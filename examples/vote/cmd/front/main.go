// Command front serves the vote example's page and API over HTTP/1.1.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/examples/vote/front"
)

func main() { os.Exit(vote.Main("front", run)) }

func run(ctx context.Context, log *slog.Logger) error {
	listen := flag.String("listen", vote.Env("LISTEN_ADDR", ":8080"), "address to serve HTTP on (LISTEN_ADDR)")
	catalogAddr := flag.String("catalog", vote.Env("CATALOG_ADDR", "catalog:8081"), "address of the catalog (CATALOG_ADDR)")
	ballotAddr := flag.String("ballot", vote.Env("BALLOT_ADDR", "ballot:8082"), "address of the ballot (BALLOT_ADDR)")
	flag.Parse()

	catalog, err := vote.Dial(*catalogAddr)
	if err != nil {
		return err
	}
	defer catalog.Close()
	ballot, err := vote.Dial(*ballotAddr)
	if err != nil {
		return err
	}
	defer ballot.Close()
	ln, err := vote.Listen(ctx, *listen)
	if err != nil {
		return err
	}
	log.Info("serving", "addr", ln.Addr().String(), "catalog", *catalogAddr, "ballot", *ballotAddr)
	return vote.ServeHTTP(ctx, ln, front.New(catalog, ballot, log).Handler())
}
