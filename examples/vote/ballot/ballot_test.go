package ballot

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// call runs the method as gRPC would, but for the wire.
func call(t *testing.T, s *Server, method string) (*votepb.VoteReply, error) {
	t.Helper()
	for _, m := range votepb.Ballot_ServiceDesc.Methods {
		if m.MethodName != method {
			continue
		}
		reply, err := m.Handler(s, t.Context(), func(any) error { return nil }, nil)
		if err != nil {
			return nil, err
		}
		return reply.(*votepb.VoteReply), nil
	}
	t.Fatalf("no method %s", method)
	return nil, nil
}

func results(t *testing.T, s *Server) []string {
	t.Helper()
	reply, err := s.Results(t.Context(), &votepb.ResultsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if reply.GetMarker() != vote.Marker {
		t.Errorf("marker %q", reply.GetMarker())
	}
	var lines []string
	for _, r := range reply.GetResults() {
		lines = append(lines, strings.Repeat("+", int(r.GetVotes()))+r.GetShortcode())
	}
	return lines
}

func TestEveryMethodCountsItsOwnChoice(t *testing.T) {
	tested := 0
	for _, m := range votepb.Ballot_ServiceDesc.Methods {
		shortcode, isVote := strings.CutPrefix(strings.ToLower(m.MethodName), "vote")
		if !isVote || shortcode == "doughnut" {
			continue
		}
		tested++
		s := &Server{Name: "b1"}
		reply, err := call(t, s, m.MethodName)
		if err != nil {
			t.Fatalf("%s: %v", m.MethodName, err)
		}
		if reply.GetServedBy() != "b1" || reply.GetMarker() != vote.Marker {
			t.Errorf("%s: reply %v", m.MethodName, reply)
		}
		if diff := cmp.Diff([]string{"+" + shortcode}, results(t, s)); diff != "" {
			t.Errorf("%s: %s", m.MethodName, diff)
		}
	}
	if tested != 11 {
		t.Errorf("%d methods tested, want 11", tested)
	}
}

func TestDoughnutAlwaysFailsAndCountsNothing(t *testing.T) {
	s := &Server{}
	for range 3 {
		if _, err := call(t, s, "VoteDoughnut"); status.Code(err) != codes.Internal {
			t.Fatalf("err = %v, want Internal", err)
		}
	}
	if got := results(t, s); got != nil {
		t.Errorf("results %v, want none", got)
	}
}

func TestResultsAreInOrderOfVotes(t *testing.T) {
	s := &Server{}
	var votes sync.WaitGroup
	for _, f := range []func(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error){
		s.VoteWhale, s.VotePizza, s.VotePizza, s.VoteAnchor,
	} {
		votes.Go(func() {
			if _, err := f(t.Context(), &votepb.VoteRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	votes.Wait()
	if diff := cmp.Diff([]string{"++pizza", "+anchor", "+whale"}, results(t, s)); diff != "" {
		t.Error(diff)
	}
}
