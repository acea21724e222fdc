// Package soak is the load that lasts: two nodes under half of what they can, while connections, streams, endpoints, accounts and
// certificates come and go; and a noisy neighbour.
//
// Promises:
//  1. Every request that does not end as it should is counted and makes the run fail; the first ones are named.
//  2. Growth is what the median of the last third of the samples is above that of the first, after a warm-up.
//  3. Nothing that is there at the end was not there at the beginning: when all has gone, descriptors and goroutines are counted again.
//  4. Nothing is left behind, however it ends.
package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// Config says what is run.
type Config struct {
	Bin      string        // the directory of the product's programs
	Self     string        // this program, which runs in pods too
	Length   time.Duration // of the soak; at least 30 s
	Rate     int           // requests a second; 0 is half of what was saturation
	LeafTTL  time.Duration // default 100 s
	Samples  string        // a file to write all samples to, as CSV
	KeepLogs string        // a directory to copy the programs' logs to
	Out      io.Writer     // the table and the line
	Progress io.Writer
}

const (
	shortest = 30 * time.Second
	every    = 2 * time.Second // between samples
	// saturating is how long saturation is measured.
	saturating = 6 * time.Second
	// resting is how long what is left may take to go.
	resting = time.Minute
	// leafTTL has certificates renewed every 4 to 36 seconds: they begin a minute in the past, and are renewed at about half of their life.
	leafTTL = 100 * time.Second
)

// Run soaks, and returns an error that says what failed.
func Run(ctx context.Context, c Config) (err error) {
	if c.Length < shortest {
		return fmt.Errorf("a soak of %v is shorter than %v", c.Length, shortest)
	}
	if c.LeafTTL == 0 {
		c.LeafTTL = leafTTL
	}
	st, err := newStage(ctx, c, "--leaf-ttl="+c.LeafTTL.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	return st.soak(ctx)
}

// soak is the whole run on a stage that is set.
func (s *stage) soak(ctx context.Context) error {
	probe := newProbe(s.mesh)
	before, err := probe.look(ctx)
	if err != nil {
		return err
	}
	t := &troupe{stage: s}
	if err := t.enter(ctx); err != nil {
		return err
	}
	v := &Verdict{Rate: s.cfg.Rate, LeafTTL: s.cfg.LeafTTL}
	if v.Rate == 0 {
		if v.Saturation, err = t.saturation(ctx); err != nil {
			return fmt.Errorf("measure saturation: %w", err)
		}
		v.Rate = max(int(v.Saturation/2), 20)
	}
	s.say("%.0f requests a second were saturation; %d are sent for %v", v.Saturation, v.Rate, s.cfg.Length)
	began := time.Now()
	all, err := t.last(ctx, probe, v)
	if s.cfg.Samples != "" {
		err = errors.Join(err, writeSamples(s.cfg.Samples, all))
	}
	if err != nil {
		return err
	}
	v.Seconds = time.Since(began).Seconds()
	v.judge(all)
	if err := t.exit(ctx); err != nil {
		return err
	}
	s.say("waiting until what is left has gone, %v at most", resting)
	if v.Rest, err = probe.rest(ctx, before, resting); err != nil {
		return err
	}
	return v.tell(s.cfg.Out)
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.cfg.Progress, "soak: "+format+"\n", args...)
}

// stage is a lab of two nodes with the product at work.
type stage struct {
	cfg  Config
	lab  *testnet.Lab
	mesh *testnet.Mesh
	pods map[*testnet.Pod]struct{}
}

// meshed is the namespace that is in the mesh.
const meshed = "app"

func newStage(ctx context.Context, c Config, controllerArgs ...string) (_ *stage, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed: network namespaces and eBPF")
	}
	lab, err := testnet.New(testnet.Config{Nodes: 2, Plugins: filepath.Join(c.Bin, "cni"), CNIPlugin: filepath.Join(c.Bin, "cni-plugin")})
	if err != nil {
		return nil, fmt.Errorf("make the nodes: %w", err)
	}
	s := &stage{cfg: c, lab: lab, pods: map[*testnet.Pod]struct{}{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := lab.LabelNamespace(meshed, map[string]string{"fairlead.io/mesh": "enabled"}); err != nil {
		return nil, err
	}
	if s.mesh, err = lab.StartMesh(ctx, testnet.MeshConfig{Bin: c.Bin, ControllerArgs: controllerArgs}); err != nil {
		return nil, fmt.Errorf("start the mesh: %w", err)
	}
	return s, nil
}

// close ends everything and takes the product out of the kernel.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for p := range s.pods {
		errs = append(errs, p.Delete(ctx))
	}
	if s.mesh != nil {
		errs = append(errs, s.mesh.Stop(ctx))
	}
	if s.cfg.KeepLogs != "" {
		errs = append(errs, os.CopyFS(filepath.Join(s.cfg.KeepLogs, filepath.Base(s.lab.Dir())), os.DirFS(s.lab.LogDir())))
	}
	return errors.Join(append(errs, s.lab.Close())...)
}

// pause lets some time pass.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// read takes what a program of ours has printed.
func read[T any](out []byte) (T, error) {
	var v T
	if err := json.Unmarshal(out, &v); err != nil {
		return v, fmt.Errorf("read %q: %w", out, err)
	}
	return v, nil
}
