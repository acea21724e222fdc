package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) edgesCommand() *cobra.Command {
	window := 5 * time.Second
	cmd := &cobra.Command{
		Use:     "edges [KIND [NAME]]",
		GroupID: "see",
		Short:   "who talks to whom, and how it is secured",
		Long: `Shows who has to do with whom: both ends, their identities, how the connection is secured, and requests per second.

Both ends of a connection know of it; the server's word counts, and the client's where the server is outside the
mesh. CLIENT_ID and SERVER_ID are there where both have proved who they are, by the certificates of mutual TLS.

KIND is workload (without one; deployment and the like mean the same), pod or namespace. An edge that nothing has passed for 30 minutes is forgotten.`,
		Example: `  fairlead edges -n shop
  fairlead edges pod -n shop
  fairlead edges deploy/web -n shop -o wide`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: t.complete(edgeKinds...),
		RunE:              func(cmd *cobra.Command, args []string) error { return t.edges(cmd.Context(), args, window) },
	}
	t.formats(cmd, "table", "wide", "json")
	cmd.Flags().DurationVarP(&window, "time-window", "t", window, "time in which requests are counted; 0 is since the pods are in the mesh")
	return cmd
}

var edgeKinds = []kind{aWorkload, aPod, aNamespace, aDeploy, aStateful, aDaemonSet, aJob, aCronJob}

// edge is who talks to whom. Two are the same if all but the counts are.
type edge struct {
	Src, Dst           mesh.Name
	ClientID, ServerID string
	Secured            string
}

// edgeCounts are what passed.
type edgeCounts struct {
	Requests, Failures, Opened, Open float64
}

func (t *tool) edges(ctx context.Context, args []string, window time.Duration) error {
	if len(args) == 0 {
		args = []string{string(aWorkload)}
	}
	r, err := parseResource(args, edgeKinds...)
	if err != nil {
		return err
	}
	c, err := t.connect()
	if err != nil {
		return err
	}
	f := t.fleet(c)
	w, err := watchEdges(ctx, f, r.kind, window)
	if err != nil {
		return err
	}
	for _, m := range w.missed {
		fmt.Fprintln(t.err, "not counted:", m)
	}
	namespace := t.namespace(c)
	shown := func(e edge) bool {
		if r.kind == aNamespace {
			return r.name == "" || e.Src.Name == r.name || e.Dst.Name == r.name
		}
		in := func(n mesh.Name) bool {
			return (namespace == "" || n.Namespace == namespace) && (r.name == "" || n.Name == r.name)
		}
		return in(e.Src) || in(e.Dst)
	}
	return t.printEdges(w, shown)
}

// edgeWindow is what passed in some time.
type edgeWindow struct {
	edges   map[edge]edgeCounts
	elapsed time.Duration
	missed  []string
}

func watchEdges(ctx context.Context, f *fleet.Fleet, k kind, window time.Duration) (*edgeWindow, error) {
	nodes, err := f.NodePods(ctx)
	if err != nil {
		return nil, err
	}
	ask := func() []fleet.Told[[]debug.Edge] {
		return fleet.Proxies[[]debug.Edge](ctx, f, nodes, debug.EdgesPath, nil)
	}
	w := &edgeWindow{}
	var before map[edge]edgeCounts
	if window > 0 {
		before = edgesOf(ask(), k)
		if err := f.Clock.Wait(ctx, window); err != nil {
			return nil, err
		}
		w.elapsed = window
	}
	told := ask()
	w.edges, w.missed, err = edgesOf(told, k), missed(told), nobody(told)
	for e, now := range w.edges {
		if then, ok := before[e]; ok && then.Requests <= now.Requests && then.Opened <= now.Opened {
			now.Requests -= then.Requests
			now.Failures -= then.Failures
			now.Opened -= then.Opened
			w.edges[e] = now
		}
	}
	return w, err
}

// edgesOf joins what the proxies tell to the edges between things of a kind.
func edgesOf(told []fleet.Told[[]debug.Edge], k kind) map[edge]edgeCounts {
	all := map[edge]edgeCounts{}
	for _, t := range told {
		for _, d := range t.What {
			e, ok := edgeOf(d, k)
			if !ok {
				continue
			}
			c := all[e]
			c.Requests += float64(d.Requests)
			c.Failures += float64(d.Failures)
			c.Opened += float64(d.Opened)
			c.Open += float64(d.Open)
			all[e] = c
		}
	}
	return all
}

// edgeOf is the edge from client to server; false for what the other end tells too, and for what got nowhere.
func edgeOf(d debug.Edge, k kind) (edge, bool) {
	if d.TLS == "none" || d.Direction == "outbound" && d.TLS == "mtls" {
		return edge{}, false
	}
	pod := mesh.Name{Namespace: d.Pod.Namespace, Name: d.Workload}
	peer := mesh.Name{Namespace: d.Peer.Namespace, Name: d.Peer.Workload}
	switch k {
	case aPod:
		pod.Name, peer.Name = d.Pod.Name, d.Peer.Name
	case aNamespace:
		pod, peer = mesh.Name{Name: pod.Namespace}, mesh.Name{Name: peer.Namespace}
	}
	if d.Peer.Name == "" {
		peer = mesh.Name{Name: "(outside)"}
	}
	e := edge{Src: pod, Dst: peer, Secured: d.TLS}
	if d.Direction == "inbound" {
		e.Src, e.Dst = peer, pod
	}
	if d.TLS == "mtls" && k != aNamespace {
		own := ownID(d)
		if e.ClientID, e.ServerID = own, d.Peer.Identity; d.Direction == "inbound" {
			e.ClientID, e.ServerID = d.Peer.Identity, own
		}
	}
	return e, true
}

// ownID is the identity of the edge's pod, of the same trust domain as its peer's.
func ownID(d debug.Edge) string {
	td, ok := trustDomainOf(d.Peer.Identity)
	if !ok {
		return ""
	}
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", td, d.Pod.Namespace, d.Account)
}

// secured says how, as people say it.
func (e *edge) secured() string {
	switch e.Secured {
	case "mtls":
		return "✓ mutual TLS"
	case "self":
		return "- within the pod"
	case "not_in_mesh":
		return "✗ plaintext: one end is outside the mesh"
	}
	return "✗ " + e.Secured
}

// edgeJSON is an edge for other programs.
type edgeJSON struct {
	edgeEnds
	Secured  string   `json:"secured"` // mtls, not_in_mesh or self
	Requests float64  `json:"requests"`
	Failures float64  `json:"failures"`
	RPS      *float64 `json:"rps"`
	Opened   float64  `json:"tcpOpened"`
	Open     float64  `json:"tcpOpen"`
}

type edgeEnds struct {
	SrcNamespace string `json:"srcNamespace,omitempty"`
	Src          string `json:"src"`
	DstNamespace string `json:"dstNamespace,omitempty"`
	Dst          string `json:"dst"`
	ClientID     string `json:"clientId,omitempty"`
	ServerID     string `json:"serverId,omitempty"`
}

func (t *tool) printEdges(w *edgeWindow, shown func(edge) bool) error {
	var all []edge
	for e := range w.edges {
		if shown(e) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b edge) int {
		return cmp.Or(compareNames(a.Src, b.Src), compareNames(a.Dst, b.Dst), cmp.Compare(a.Secured, b.Secured), cmp.Compare(a.ClientID+a.ServerID, b.ClientID+b.ServerID))
	})
	if t.format == "json" {
		rows := []edgeJSON{}
		for _, e := range all {
			c := w.edges[e]
			rows = append(rows, edgeJSON{edgeEnds{e.Src.Namespace, e.Src.Name, e.Dst.Namespace, e.Dst.Name, e.ClientID, e.ServerID},
				e.Secured, c.Requests, c.Failures, number(perSecond(c.Requests, w.elapsed)), c.Opened, c.Open})
		}
		return printJSON(t.out, rows)
	}
	heads := []string{"SRC", "DST", "SRC_NS", "DST_NS", "CLIENT_ID", "SERVER_ID", "SECURED", ">RPS"}
	if t.format == "wide" {
		heads = append(heads, ">REQUESTS", ">FAILURES", ">SUCCESS", ">TCP_OPENED", ">TCP_CONN")
	}
	table := newTable(heads...)
	for _, e := range all {
		c := w.edges[e]
		cells := []string{e.Src.Name, e.Dst.Name, dash(e.Src.Namespace), dash(e.Dst.Namespace), dash(shortID(e.ClientID)), dash(shortID(e.ServerID)), e.secured(), rate(perSecond(c.Requests, w.elapsed))}
		if t.format == "wide" {
			cells[4], cells[5] = dash(e.ClientID), dash(e.ServerID)
			cells = append(cells, whole(c.Requests), whole(c.Failures), percent(success(c.Requests, c.Failures)), whole(c.Opened), whole(c.Open))
		}
		table.row(cells...)
	}
	table.print(t.out)
	return nil
}

func perSecond(n float64, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return math.NaN()
	}
	return n / elapsed.Seconds()
}

func success(requests, failures float64) float64 {
	if requests <= 0 {
		return math.NaN()
	}
	return 1 - failures/requests
}

func dash(s string) string {
	if s == "" {
		return none
	}
	return s
}
