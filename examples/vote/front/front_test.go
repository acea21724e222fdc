package front_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"fairlead.io/fairlead/examples/vote"
	"fairlead.io/fairlead/examples/vote/ballot"
	"fairlead.io/fairlead/examples/vote/catalog"
	"fairlead.io/fairlead/examples/vote/front"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// serve runs a gRPC service on loopback for the length of the test and returns a client of it.
func serve(t *testing.T, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	ln, err := vote.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- vote.ServeGRPC(ctx, ln, register) }()
	conn, err := vote.Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func catalogOf(name string) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) { votepb.RegisterCatalogServer(r, &catalog.Server{Name: name}) }
}

func ballotOf(name string) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) { votepb.RegisterBallotServer(r, &ballot.Server{Name: name}) }
}

func newFront(t *testing.T, catalog, ballot grpc.ClientConnInterface) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(front.New(catalog, ballot, slog.New(slog.DiscardHandler)).Handler())
	t.Cleanup(s.Close)
	return s
}

// ask returns status and body, and checks that the answer bears the marker.
func ask(t *testing.T, s *httptest.Server, method, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get(vote.MarkerHeader); path != "/healthz" && got != vote.Marker {
		t.Errorf("%s: marker %q", path, got)
	}
	return response.StatusCode, string(body)
}

func mustDecode[T any](t *testing.T, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return v
}

func TestVotesReachTheLeaderboard(t *testing.T) {
	s := newFront(t, serve(t, catalogOf("c1")), serve(t, ballotOf("b1")))

	_, body := ask(t, s, "GET", "/api/list")
	list := mustDecode[front.List](t, body)
	if list.ServedBy != "c1" || len(list.Choices) != 12 {
		t.Fatalf("list %+v", list)
	}
	want := front.Leaderboard{ServedBy: "b1", Leaders: []front.Leader{}}
	for _, c := range list.Choices {
		code, body := ask(t, s, "POST", "/api/vote?choice="+c.Shortcode)
		if c.Shortcode == "doughnut" {
			if code != 500 || mustDecode[front.Failure](t, body).Code != "Internal" {
				t.Errorf("doughnut: %d %s", code, body)
			}
			continue
		}
		if got := mustDecode[front.Vote](t, body); code != 200 || got.Choice != c || got.ServedBy != "b1" {
			t.Errorf("%s: %d %+v", c.Shortcode, code, got)
		}
	}
	ask(t, s, "GET", "/api/vote?choice=pizza")

	_, body = ask(t, s, "GET", "/api/leaderboard")
	got := mustDecode[front.Leaderboard](t, body)
	want.Leaders = append(want.Leaders, front.Leader{Choice: front.Choice{Shortcode: "pizza", Emoji: "🍕"}, Votes: 2})
	if diff := cmp.Diff(want.Leaders, got.Leaders[:1]); diff != "" || len(got.Leaders) != 11 || got.ServedBy != "b1" {
		t.Errorf("leaderboard %+v\n%s", got, diff)
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close() // its port refuses now
	gone, err := vote.Dial(nobody.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gone.Close() })
	s := newFront(t, serve(t, catalogOf("c1")), gone)

	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/api/vote", 400, "InvalidArgument"},
		{"GET", "/api/vote?choice=kraken", 404, "NotFound"},
		{"POST", "/api/vote?choice=pizza", 503, "Unavailable"},
		{"GET", "/api/leaderboard", 503, "Unavailable"},
	} {
		status, body := ask(t, s, test.method, test.path)
		failure := mustDecode[front.Failure](t, body)
		if status != test.status || failure.Code != test.code || failure.Error == "" {
			t.Errorf("%s: %d %s, want %d %s", test.path, status, body, test.status, test.code)
		}
	}
	if status, _ := ask(t, s, "GET", "/healthz"); status != 200 {
		t.Errorf("/healthz: %d though only the ballot is away", status)
	}
}

func TestPageIsComplete(t *testing.T) {
	s := newFront(t, serve(t, catalogOf("c1")), serve(t, ballotOf("b1")))
	status, html := ask(t, s, "GET", "/")
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, file := range []string{"style.css", "page.js"} {
		if status, body := ask(t, s, "GET", "/"+file); status != 200 || body == "" || !strings.Contains(html, file) {
			t.Errorf("%s: %d, %d bytes", file, status, len(body))
		}
	}
}

// TestOneConnectionInTheClear makes many calls at once, and looks at what went over the wire.
func TestOneConnectionInTheClear(t *testing.T) {
	ln, err := vote.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tapped := &tap{Listener: ln}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- vote.ServeGRPC(ctx, tapped, catalogOf("c1")) }()
	conn, err := vote.Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := votepb.NewCatalogClient(conn)
	calls := make(chan error, 32)
	for range cap(calls) {
		go func() {
			_, err := client.ListAll(t.Context(), &votepb.ListAllRequest{Marker: vote.Marker})
			calls <- err
		}()
	}
	for range cap(calls) {
		if err := <-calls; err != nil {
			t.Error(err)
		}
	}
	conn.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	tapped.mu.Lock()
	defer tapped.mu.Unlock()
	if tapped.accepted != 1 {
		t.Errorf("%d connections, want 1", tapped.accepted)
	}
	for direction, bytes := range map[string][]byte{"requests": tapped.read, "replies": tapped.written} {
		if n := strings.Count(string(bytes), vote.Marker); n != cap(calls) {
			t.Errorf("%d markers in the %s, want %d", n, direction, cap(calls))
		}
	}
}

// tap records what its connections carry.
type tap struct {
	net.Listener

	mu            sync.Mutex // protects what follows
	accepted      int
	read, written []byte
}

func (l *tap) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted++
	return &tappedConn{conn, l}, nil
}

type tappedConn struct {
	net.Conn
	tap *tap
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.read = append(c.tap.read, b[:n]...)
	return n, err
}

func (c *tappedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.written = append(c.tap.written, b[:n]...)
	return n, err
}
