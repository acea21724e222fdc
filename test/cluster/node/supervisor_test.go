package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// run runs a supervisor until done, and returns its log.
func run(t *testing.T, services map[string]string, done func() bool) string {
	t.Helper()
	var log bytes.Buffer
	s := newSupervisor(Spec{}, slog.New(slog.NewTextHandler(&log, nil)))
	s.again = 10 * time.Millisecond
	for name := range services {
		s.services = append(s.services, Service{Name: name})
	}
	s.due = make(chan Service, len(services))
	s.command = func(service Service) (*exec.Cmd, error) {
		if services[service.Name] == "" {
			return nil, errors.New("no such program")
		}
		out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command("sh", "-c", services[service.Name])
		cmd.Stdout = out
		return cmd, nil
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() && ctx.Err() == nil {
		<-tick.C
	}
	if ctx.Err() != nil {
		t.Error("it did not come to that")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return log.String()
}

func lines(path string) int {
	b, _ := os.ReadFile(path)
	return bytes.Count(b, []byte("\n"))
}

func TestServicesAreStartedAgain(t *testing.T) {
	dir := t.TempDir()
	failing, killed := filepath.Join(dir, "failing"), filepath.Join(dir, "killed")
	run(t, map[string]string{
		"failing": fmt.Sprintf("echo x >>%s; exit 3", failing),
		"killed":  fmt.Sprintf("echo x >>%s; kill -9 $$", killed),
		"absent":  "",
	}, func() bool { return lines(failing) > 2 && lines(killed) > 2 })
}

func TestLogSaysHowAServiceEnded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	log := run(t, map[string]string{"one": fmt.Sprintf("echo x >>%s; exit 3", file)}, func() bool { return lines(file) > 1 })
	if !bytes.Contains([]byte(log), []byte("service=one")) || !bytes.Contains([]byte(log), []byte("exit=3")) {
		t.Errorf("log: %s", log)
	}
}
