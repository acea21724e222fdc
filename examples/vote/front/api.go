package front

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// Choice is one thing to vote for.
type Choice struct {
	Shortcode string `json:"shortcode"`
	Emoji     string `json:"emoji"`
}

// List is the answer of /api/list.
type List struct {
	Choices  []Choice `json:"choices"`
	ServedBy string   `json:"servedBy"` // the catalog's instance
}

// Vote is the answer of /api/vote.
type Vote struct {
	Choice   Choice `json:"choice"`
	ServedBy string `json:"servedBy"` // the ballot's instance
}

// Leaderboard is the answer of /api/leaderboard.
type Leaderboard struct {
	Leaders  []Leader `json:"leaders"`
	ServedBy string   `json:"servedBy"` // the ballot's instance
}

// Leader is one line of the leaderboard.
type Leader struct {
	Choice
	Votes uint64 `json:"votes"`
}

func (f *Front) list(ctx context.Context, _ *http.Request) (any, error) {
	reply, err := f.catalog.ListAll(ctx, &votepb.ListAllRequest{Marker: vote.Marker})
	if err != nil {
		return nil, err
	}
	list := List{Choices: []Choice{}, ServedBy: reply.GetServedBy()}
	for _, c := range reply.GetChoices() {
		list.Choices = append(list.Choices, Choice{Shortcode: c.GetShortcode(), Emoji: c.GetEmoji()})
	}
	return list, nil
}

// vote asks the catalog whether the choice exists before it asks the ballot to count it.
func (f *Front) vote(ctx context.Context, r *http.Request) (any, error) {
	shortcode := r.URL.Query().Get("choice")
	if shortcode == "" {
		return nil, status.Error(codes.InvalidArgument, "the parameter choice is missing")
	}
	found, err := f.catalog.FindByShortcode(ctx, &votepb.FindByShortcodeRequest{Marker: vote.Marker, Shortcode: shortcode})
	if err != nil {
		return nil, err
	}
	call, ok := f.votes[shortcode]
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "the ballot has no method for %q", shortcode)
	}
	reply, err := call(ctx, &votepb.VoteRequest{Marker: vote.Marker})
	if err != nil {
		return nil, err
	}
	return Vote{
		Choice:   Choice{Shortcode: shortcode, Emoji: found.GetChoice().GetEmoji()},
		ServedBy: reply.GetServedBy(),
	}, nil
}

func (f *Front) leaderboard(ctx context.Context, _ *http.Request) (any, error) {
	choices, err := f.catalog.ListAll(ctx, &votepb.ListAllRequest{Marker: vote.Marker})
	if err != nil {
		return nil, err
	}
	emoji := make(map[string]string)
	for _, c := range choices.GetChoices() {
		emoji[c.GetShortcode()] = c.GetEmoji()
	}
	results, err := f.ballot.Results(ctx, &votepb.ResultsRequest{Marker: vote.Marker})
	if err != nil {
		return nil, err
	}
	board := Leaderboard{Leaders: []Leader{}, ServedBy: results.GetServedBy()}
	for _, r := range results.GetResults() {
		board.Leaders = append(board.Leaders, Leader{
			Choice: Choice{Shortcode: r.GetShortcode(), Emoji: emoji[r.GetShortcode()]},
			Votes:  r.GetVotes(),
		})
	}
	return board, nil
}

// voteCall is one method of the ballot.
type voteCall func(context.Context, *votepb.VoteRequest, ...grpc.CallOption) (*votepb.VoteReply, error)

func voteCalls(b votepb.BallotClient) map[string]voteCall {
	return map[string]voteCall{
		"anchor":   b.VoteAnchor,
		"avocado":  b.VoteAvocado,
		"cactus":   b.VoteCactus,
		"doughnut": b.VoteDoughnut,
		"guitar":   b.VoteGuitar,
		"octopus":  b.VoteOctopus,
		"pizza":    b.VotePizza,
		"rainbow":  b.VoteRainbow,
		"rocket":   b.VoteRocket,
		"sailboat": b.VoteSailboat,
		"snowman":  b.VoteSnowman,
		"whale":    b.VoteWhale,
	}
}
