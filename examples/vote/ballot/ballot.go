// Package ballot is the service that counts votes, in memory: two instances count apart.
//
// Promises:
//  1. A vote that was answered without error is in every later Results of the same instance.
//  2. VoteDoughnut counts nothing and always fails with Internal. It is the fault to be found.
package ballot

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// Server is the Ballot service. Its zero value is ready.
type Server struct {
	votepb.UnimplementedBallotServer
	Name string // of this instance, in every reply

	mu    sync.Mutex
	votes map[string]uint64 // by shortcode; mu protects it
}

// Results returns the choices that got a vote, the most votes first and the rest by name.
func (s *Server) Results(context.Context, *votepb.ResultsRequest) (*votepb.ResultsReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &votepb.ResultsReply{Marker: vote.Marker, ServedBy: s.Name}
	for shortcode, n := range s.votes {
		reply.Results = append(reply.Results, &votepb.Result{Shortcode: shortcode, Votes: n})
	}
	slices.SortFunc(reply.Results, func(a, b *votepb.Result) int {
		return cmp.Or(cmp.Compare(b.GetVotes(), a.GetVotes()), cmp.Compare(a.GetShortcode(), b.GetShortcode()))
	})
	return reply, nil
}

func (s *Server) count(shortcode string) (*votepb.VoteReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.votes == nil {
		s.votes = make(map[string]uint64)
	}
	s.votes[shortcode]++
	return &votepb.VoteReply{Marker: vote.Marker, ServedBy: s.Name}, nil
}

// VoteDoughnut always fails.
func (s *Server) VoteDoughnut(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return nil, status.Error(codes.Internal, "the doughnut's vote fell through the hole")
}
