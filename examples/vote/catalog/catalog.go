// Package catalog is the service that knows what can be voted for. It keeps no state: any number of instances
// give the same answers, under different names.
package catalog

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// choices is what the ballot has a method for, in the order of the page.
var choices = []*votepb.Choice{
	{Shortcode: "anchor", Emoji: "⚓"},
	{Shortcode: "sailboat", Emoji: "⛵"},
	{Shortcode: "whale", Emoji: "🐳"},
	{Shortcode: "octopus", Emoji: "🐙"},
	{Shortcode: "rocket", Emoji: "🚀"},
	{Shortcode: "rainbow", Emoji: "🌈"},
	{Shortcode: "guitar", Emoji: "🎸"},
	{Shortcode: "cactus", Emoji: "🌵"},
	{Shortcode: "snowman", Emoji: "⛄"},
	{Shortcode: "pizza", Emoji: "🍕"},
	{Shortcode: "avocado", Emoji: "🥑"},
	{Shortcode: "doughnut", Emoji: "🍩"},
}

// Server is the Catalog service.
type Server struct {
	votepb.UnimplementedCatalogServer
	Name string // of this instance, in every reply
}

// ListAll returns every choice.
func (s *Server) ListAll(context.Context, *votepb.ListAllRequest) (*votepb.ListAllReply, error) {
	return &votepb.ListAllReply{Marker: vote.Marker, Choices: choices, ServedBy: s.Name}, nil
}

// FindByShortcode returns one choice, or NotFound.
func (s *Server) FindByShortcode(_ context.Context, r *votepb.FindByShortcodeRequest) (*votepb.FindByShortcodeReply, error) {
	for _, c := range choices {
		if c.GetShortcode() == r.GetShortcode() {
			return &votepb.FindByShortcodeReply{Marker: vote.Marker, Choice: c, ServedBy: s.Name}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "no choice is called %q", r.GetShortcode())
}
