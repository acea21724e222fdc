package catalog

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

func TestListAllAndFindAgree(t *testing.T) {
	s := &Server{Name: "c1"}
	list, err := s.ListAll(t.Context(), &votepb.ListAllRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if list.GetMarker() != vote.Marker || list.GetServedBy() != "c1" {
		t.Errorf("marker %q, served by %q", list.GetMarker(), list.GetServedBy())
	}
	for _, c := range list.GetChoices() {
		found, err := s.FindByShortcode(t.Context(), &votepb.FindByShortcodeRequest{Shortcode: c.GetShortcode()})
		if err != nil || found.GetChoice().GetEmoji() != c.GetEmoji() || found.GetMarker() != vote.Marker {
			t.Errorf("%s: found %v, %v", c.GetShortcode(), found, err)
		}
	}
}

func TestUnknownShortcodeIsNotFound(t *testing.T) {
	_, err := new(Server).FindByShortcode(t.Context(), &votepb.FindByShortcodeRequest{Shortcode: "kraken"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("err = %v, want NotFound", err)
	}
}

// TestEveryChoiceHasAMethod keeps the list and the ballot's proto from drifting apart.
func TestEveryChoiceHasAMethod(t *testing.T) {
	methods := make(map[string]bool)
	for _, m := range votepb.Ballot_ServiceDesc.Methods {
		if name, isVote := strings.CutPrefix(strings.ToLower(m.MethodName), "vote"); isVote {
			methods[name] = true
		}
	}
	for _, c := range choices {
		if !methods[c.GetShortcode()] {
			t.Errorf("%s has no method", c.GetShortcode())
		}
		delete(methods, c.GetShortcode())
	}
	if len(methods) != 0 {
		t.Errorf("methods without a choice: %v", methods)
	}
}
