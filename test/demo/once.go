package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"fairlead.io/fairlead/examples/vote"
)

// tally is the bot's line, as far as the demo reads it.
type tally struct {
	Total      uint64            `json:"total"`
	Failed     map[string]uint64 `json:"failed"`
	Unexpected uint64            `json:"unexpected"`
	LastError  string            `json:"lastError"`
}

// route is a line of a proxy's /debug/routes.
type route struct {
	Path     string `json:"path"`
	Protocol string `json:"protocol"`
	Service  string `json:"service"`
	Failures uint64 `json:"failures"`
	Identity string `json:"identity"` // that the server proved
}

func (s *stage) tally() (tally, error) {
	var t tally
	line := s.bot.get()
	if line == nil {
		return t, errors.New("the bot has said nothing")
	}
	if err := json.Unmarshal(line, &t); err != nil {
		return t, fmt.Errorf("parse the bot's line: %w", err)
	}
	return t, nil
}

// once runs for a while and judges.
func (s *stage) once(ctx context.Context) (verdict, error) {
	select {
	case <-time.After(s.o.length):
	case <-ctx.Done():
		return verdict{}, nil
	}
	if err := s.playing(); err != nil {
		return verdict{}, err
	}
	t, err := s.tally()
	if err != nil {
		return verdict{}, err
	}
	if t.Unexpected > 0 {
		fmt.Println("last unexpected failure:", t.LastError)
	}
	v := verdict{Requests: t.Total, Failed: t.Unexpected}
	if v.FailingRoute, err = s.failingRoute(ctx, t); err != nil {
		return v, err
	}
	if err := s.stopCapture(); err != nil {
		return v, fmt.Errorf("capture packets: %w", err)
	}
	seen := s.capture.Stats()
	if seen.Dropped+seen.Cut > 0 {
		return v, fmt.Errorf("capture packets: %d dropped, %d cut: nothing is proved", seen.Dropped, seen.Cut)
	}
	v.Leaks = seen.Hits[vote.Marker]
	for _, hit := range seen.First {
		fmt.Println("plaintext:", hit)
	}
	if seen.Flows > 0 {
		v.MTLSRatio = float64(seen.TLSFlows) / float64(seen.Flows)
	}
	fmt.Printf("captured %d packets between pods, at the pods and between the nodes; %d of %d connections were TLS\n", seen.Packets, seen.TLSFlows, seen.Flows)
	return v, nil
}

// failingRoute is the route with the most failures, as the proxies have counted them; without the mesh only the bot knows.
func (s *stage) failingRoute(ctx context.Context, t tally) (string, error) {
	worst, name := uint64(0), ""
	if s.mesh == nil {
		for choice, n := range t.Failed {
			if n > worst {
				worst, name = n, choice
			}
		}
		return name, nil
	}
	routes, err := s.routes(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range routes {
		if r.Protocol == "grpc" && r.Failures > worst {
			worst, name = r.Failures, r.Path
		}
	}
	return name, nil
}

func (s *stage) routes(ctx context.Context) ([]route, error) {
	var all []route
	for _, n := range s.mesh.Nodes {
		body, err := n.Admin(ctx, "/debug/routes")
		if err != nil {
			return nil, err
		}
		var some []route
		if err := json.Unmarshal(body, &some); err != nil {
			return nil, fmt.Errorf("parse routes of %s: %w", n.Name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// page asks the vote page's pod, as somebody from outside.
func (s *stage) page(ctx context.Context) (net.Conn, error) {
	front := s.pods[frontIndex]
	return s.lab.Outside().Dial(ctx, "tcp", net.JoinHostPort(front.Addr(4).String(), "8080"))
}

// frontIndex is the front's place in the cast.
const frontIndex = 3

// waitPage waits until the front answers.
func (s *stage) waitPage(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.page(ctx) }}, Timeout: 2 * time.Second}
	var last error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; {
		resp, err := client.Get("http://front/healthz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s %v", resp.Status, resp.Header)
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.Join(fmt.Errorf("wait for the vote page: %w", last), ctx.Err())
}
