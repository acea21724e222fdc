package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"fairlead.io/fairlead/bench/load"
	"fairlead.io/fairlead/internal/testnet"
)

const (
	// bar is how many times its quiet value the 99th percentile of a pod may be that has a noisy neighbour.
	bar = 2
	// The open loop of the pod that is measured, in each phase.
	paceRate    = 400
	paceConns   = 16
	paceSeconds = 5
)

// The processors: one for the proxy of the node where the noise is, one for all else.
const (
	elsewhere = 0
	proxyCPU  = 1
)

// Noise says which noise is made, to find out what is heard, and how often.
type Noise struct {
	Requests, Bytes int // as Crowd has them
	Rounds          int
}

// The phases of a round.
const (
	quiet   = "quiet"
	opening = "opening"
	flooded = "flooded"
)

// neighbours is two pods of one node, and what they call.
type neighbours struct {
	*stage
	noise        Noise
	noisy, still *testnet.Pod
	sink, origin server
	values       map[string][]load.Latencies
	all          Commotion
}

// Noisy measures a pod beside one that opens connections until it is refused, and floods requests and bytes. The proxy of their node has
// a processor for itself; on the other, what makes the noise and what it calls have only the time that nobody else wants. So what is
// measured is how the proxy shares out its own time.
func Noisy(ctx context.Context, c Config, noise Noise) (err error) {
	if noise.Rounds < 1 {
		return errors.New("no round to play")
	}
	if err := pin(syscall.Getpid(), proxyCPU); err != nil { // and what it starts: one processor is what a proxy believes that it has
		return err
	}
	st, err := newStage(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	n := &neighbours{stage: st, noise: noise, values: map[string][]load.Latencies{}}
	if err := n.enter(ctx); err != nil {
		return err
	}
	for round := range noise.Rounds {
		if err := n.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return n.tell(c.Out)
}

// enter adds the pods: all that is noisy is on the first node, so that its proxy has both ends of the noise.
func (n *neighbours) enter(ctx context.Context) (err error) {
	if err := n.part(); err != nil {
		return err
	}
	for _, app := range []string{"sink", "origin"} {
		if _, err := n.addService(app); err != nil {
			return err
		}
	}
	if n.sink, err = n.addServer(ctx, 0, "sink", "sink", "--yield"); err != nil {
		return err
	}
	if n.origin, err = n.addServer(ctx, 1, "origin", "origin"); err != nil {
		return err
	}
	if n.noisy, err = n.addPod(ctx, 0, "noisy", "noisy", "noisy"); err != nil {
		return err
	}
	if n.still, err = n.addPod(ctx, 0, "still", "still", "still"); err != nil {
		return err
	}
	return pause(ctx, time.Second) // both nodes learn of the pods
}

// part leaves the processor to the proxy of the first node, and to what starts there no more.
func (n *neighbours) part() error {
	others := []int{syscall.Getpid(), n.mesh.Controller.PID()}
	for _, m := range n.mesh.Nodes {
		others = append(others, m.Keeper.PID(), m.Proxy.PID())
	}
	for _, pid := range others {
		if pid == n.mesh.Nodes[0].Proxy.PID() {
			continue
		}
		if err := pin(pid, elsewhere); err != nil {
			return err
		}
	}
	return nil
}

// round measures once without noise, once while connections are opened, and once under the flood.
func (n *neighbours) round(ctx context.Context) error {
	if err := n.pace(ctx, quiet); err != nil {
		return err
	}
	before, err := n.refusals(ctx)
	if err != nil {
		return err
	}
	var out, errs lockedBuffer
	proc, err := n.noisy.Start(testnet.Command{Path: n.cfg.Self, Stdout: &out, Stderr: &errs, Args: []string{"crowd", "--to=" + n.sink.pod.Addr(4).String(),
		"--requests=" + strconv.Itoa(n.noise.Requests), "--bytes=" + strconv.Itoa(n.noise.Bytes)}})
	if err != nil {
		return err
	}
	err = n.pace(ctx, opening)
	opened, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for err == nil && !strings.HasPrefix(out.String(), "full\n") {
		select {
		case <-proc.Done():
			err = fmt.Errorf("the crowd has ended: %s", errs.String())
		default:
			err = pause(opened, 50*time.Millisecond)
		}
	}
	if err == nil {
		err = n.pace(ctx, flooded)
	}
	if err := errors.Join(err, proc.Stop(30*time.Second)); err != nil {
		return err
	}
	_, line, _ := strings.Cut(out.String(), "\n")
	made, err := read[Commotion]([]byte(line))
	if err != nil {
		return err
	}
	after, err := n.refusals(ctx)
	if err != nil {
		return err
	}
	n.say("%+v; %.0f refusals were counted; 99th percentiles: %s", made, after-before, n.latest())
	if counted := int64(after - before); counted < made.Refused || made.Refused < enough {
		return fmt.Errorf("%d connections were refused, and %d refusals counted", made.Refused, counted)
	}
	n.all.Connections = max(n.all.Connections, made.Connections)
	n.all.Refused, n.all.Requests, n.all.Bytes = n.all.Refused+made.Refused, n.all.Requests+made.Requests, n.all.Bytes+made.Bytes
	return pause(ctx, 2*time.Second) // thousands of connections end
}

// refusals is how many connections the node's proxy has refused.
func (n *neighbours) refusals(ctx context.Context) (float64, error) {
	text, err := n.mesh.Nodes[0].Admin(ctx, "/metrics")
	return series(string(text), "fairlead_proxy_events_total", `event="connection_limit"`, `direction="outbound"`), err
}

// pace has the other pod make requests, each at its time; one that fails ends the run.
func (n *neighbours) pace(ctx context.Context, phase string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	warm := paceRate / 2
	out, err := n.still.Run(ctx, testnet.Command{Path: filepath.Join(n.cfg.Bin, "bench", "drive"), Args: []string{"pace", "--host=origin",
		fmt.Sprintf("--to=%s:%d", n.origin.pod.Addr(4), webPort), fmt.Sprintf("--connections=%d", paceConns), fmt.Sprintf("--rate=%d", paceRate),
		fmt.Sprintf("--requests=%d", warm+paceSeconds*paceRate), fmt.Sprintf("--warm=%d", warm)}})
	if err != nil {
		return fmt.Errorf("the pod that is not noisy, while %s: %w", phase, err)
	}
	l, err := read[load.Latencies](out)
	n.values[phase] = append(n.values[phase], l)
	return err
}

func (n *neighbours) latest() string {
	var parts []string
	for _, phase := range []string{quiet, opening, flooded} {
		l := n.values[phase][len(n.values[phase])-1]
		parts = append(parts, fmt.Sprintf("%s %.0f µs (median %.0f)", phase, l.P99, l.P50))
	}
	return strings.Join(parts, ", ")
}

// p99 is the median over all rounds.
func (n *neighbours) p99(phase string) float64 {
	var values []float64
	for _, l := range n.values[phase] {
		values = append(values, l.P99)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// ratio is the median over all rounds of what a phase's percentile is to the quiet one's of the same round.
func (n *neighbours) ratio(phase string) float64 {
	var values []float64
	for i, l := range n.values[phase] {
		values = append(values, l.P99/n.values[quiet][i].P99)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// tell writes the table and the line, and returns an error if the bar is missed.
func (n *neighbours) tell(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "phase\tp99 µs\tto quiet\t")
	for _, phase := range []string{quiet, opening, flooded} {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t\n", phase, n.p99(phase), n.ratio(phase))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	worst := max(n.ratio(opening), n.ratio(flooded))
	line, err := json.Marshal(map[string]any{"noisy": map[string]any{"rounds": n.noise.Rounds, "connections": n.all.Connections, "refused": n.all.Refused,
		"requests": n.all.Requests, "mib": n.all.Bytes >> 20, "p99_quiet_us": n.p99(quiet), "p99_opening_us": n.p99(opening), "p99_flooded_us": n.p99(flooded),
		"ratio": float64(int(100*worst)) / 100, "failed": 0}, "pass": worst <= bar})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil || worst <= bar {
		return err
	}
	return fmt.Errorf("the neighbour's 99th percentile is %.2f times its quiet value, more than %d", worst, bar)
}

// lockedBuffer is what a program has printed so far.
type lockedBuffer struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

// Write takes what is printed.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all of it.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
