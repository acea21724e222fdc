// Package front is the vote example's HTTP/1.1 server: a page for the browser, and a JSON API that turns
// each request into gRPC calls of the catalog and the ballot.
//
// Promises:
//  1. A failed call is an HTTP error with the service's own code and text; nothing is retried or hidden here.
//  2. A request waits at most Timeout for the services behind it.
package front

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fairlead.io/fairlead/examples/vote"
	votepb "fairlead.io/fairlead/examples/vote/proto"
)

// Timeout bounds the gRPC calls of one request together.
const Timeout = 3 * time.Second

//go:embed page
var page embed.FS

// Front answers the browser and the bot.
type Front struct {
	catalog votepb.CatalogClient
	ballot  votepb.BallotClient
	votes   map[string]voteCall
	log     *slog.Logger
}

// New makes a Front that calls catalog and ballot.
func New(catalog, ballot grpc.ClientConnInterface, log *slog.Logger) *Front {
	b := votepb.NewBallotClient(ballot)
	return &Front{catalog: votepb.NewCatalogClient(catalog), ballot: b, votes: voteCalls(b), log: log}
}

// Handler is every path of the front.
func (f *Front) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/list", f.answer(f.list))
	mux.HandleFunc("GET /api/leaderboard", f.answer(f.leaderboard))
	mux.HandleFunc("GET /api/vote", f.answer(f.vote))
	mux.HandleFunc("POST /api/vote", f.answer(f.vote))
	mux.HandleFunc("GET /healthz", healthy)
	mux.Handle("GET /", static())
	return mux
}

// healthy answers for this process alone: a fault of the services behind is no reason to restart it.
func healthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // a prober that is gone needs no answer
}

func static() http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the directory is embedded: a programmer's error
	}
	serve := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set(vote.MarkerHeader, vote.Marker)
		serve.ServeHTTP(w, r)
	})
}

// Failure is the body of an error.
type Failure struct {
	Error string `json:"error"`
	Code  string `json:"code"` // of gRPC, such as "Internal"
}

// answer makes a handler that writes what call returns as JSON.
func (f *Front) answer(call func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), Timeout)
		defer cancel()
		body, err := call(ctx, r)
		code := http.StatusOK
		if err != nil {
			s := status.Convert(err)
			code = httpStatus(s.Code())
			body = Failure{Error: s.Message(), Code: s.Code().String()}
			f.log.Debug("request failed", "path", r.URL.Path, "err", err)
		}
		writeJSON(w, code, body)
	}
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(vote.MarkerHeader, vote.Marker)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // plain structs: only a client that is gone can fail it
}

// httpStatus keeps apart what the service decided (500), what was never reached (503) and what was too slow (504).
func httpStatus(code codes.Code) int {
	switch code {
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.Internal, codes.Unknown:
		return http.StatusInternalServerError
	case codes.PermissionDenied, codes.Unauthenticated:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded, codes.Canceled:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}
