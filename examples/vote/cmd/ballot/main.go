// Command ballot serves the vote example's Ballot over gRPC.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"

	"google.golang.org/grpc"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/examples/vote/ballot"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

func main() { os.Exit(vote.Main("ballot", run)) }

func run(ctx context.Context, log *slog.Logger) error {
	listen := flag.String("listen", vote.Env("LISTEN_ADDR", ":8082"), "address to serve gRPC on (LISTEN_ADDR)")
	name := flag.String("name", vote.InstanceName(), "name of this instance in replies (NAME)")
	flag.Parse()

	ln, err := vote.Listen(ctx, *listen)
	if err != nil {
		return err
	}
	log.Info("serving", "addr", ln.Addr().String(), "name", *name)
	return vote.ServeGRPC(ctx, ln, func(r grpc.ServiceRegistrar) {
		votepb.RegisterBallotServer(r, &ballot.Server{Name: *name})
	})
}
