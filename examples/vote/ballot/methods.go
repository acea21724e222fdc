package ballot

import (
	"context"

	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// One method for each choice that can be voted for; VoteDoughnut stands with its fault in ballot.go.

// VotePizza counts one vote.
func (s *Server) VotePizza(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("pizza")
}

// VoteAnchor counts one vote.
func (s *Server) VoteAnchor(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("anchor")
}

// VoteSailboat counts one vote.
func (s *Server) VoteSailboat(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("sailboat")
}

// VoteWhale counts one vote.
func (s *Server) VoteWhale(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("whale")
}

// VoteOctopus counts one vote.
func (s *Server) VoteOctopus(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("octopus")
}

// VoteRocket counts one vote.
func (s *Server) VoteRocket(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("rocket")
}

// VoteCactus counts one vote.
func (s *Server) VoteCactus(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("cactus")
}

// VoteGuitar counts one vote.
func (s *Server) VoteGuitar(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("guitar")
}

// VoteRainbow counts one vote.
func (s *Server) VoteRainbow(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("rainbow")
}

// VoteAvocado counts one vote.
func (s *Server) VoteAvocado(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("avocado")
}

// VoteSnowman counts one vote.
func (s *Server) VoteSnowman(context.Context, *votepb.VoteRequest) (*votepb.VoteReply, error) {
	return s.count("snowman")
}
