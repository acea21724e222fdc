package node

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// again is how long a service that ended is left alone: Kubernetes' programs end when one that they need is not there yet.
const again = time.Second

// supervisor starts the services of a node, again when they end, and reaps whatever ends on the node.
type supervisor struct {
	services []Service
	command  func(Service) (*exec.Cmd, error) // its Stdout is a file that the supervisor closes
	again    time.Duration
	log      *slog.Logger
	running  map[int]Service
	due      chan Service // to be started
}

func newSupervisor(s Spec, log *slog.Logger) *supervisor {
	return &supervisor{services: s.Services, command: s.command, again: again, log: log,
		running: make(map[int]Service), due: make(chan Service, len(s.Services))}
}

// Run goes on until ctx is done. When it returns process 1 does, and the kernel ends the rest.
func (s *supervisor) Run(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for _, service := range s.services {
		s.due <- service
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case service := <-s.due:
			s.start(service)
		case <-ended:
			s.reap()
		}
	}
}

func (s *supervisor) start(service Service) {
	pid, err := s.launch(service)
	if err != nil {
		s.log.Error("service not started", "service", service.Name, "error", err)
		s.later(service)
		return
	}
	s.log.Info("service started", "service", service.Name, "pid", pid)
	s.running[pid] = service
}

// launch starts the service and leaves it to reap: nobody waits for it.
func (s *supervisor) launch(service Service) (int, error) {
	cmd, err := s.command(service)
	if err != nil {
		return 0, err
	}
	defer cmd.Stdout.(*os.File).Close()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

// later has the service started after a while. The channel holds all services, so nothing waits.
func (s *supervisor) later(service Service) { time.AfterFunc(s.again, func() { s.due <- service }) }

// reap takes in every process that has ended, orphans too: one signal may stand for many.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		service, ok := s.running[pid]
		if !ok {
			continue
		}
		delete(s.running, pid)
		s.log.Warn("service ended", "service", service.Name, "pid", pid, "exit", status.ExitStatus(), "signal", status.Signal())
		s.later(service)
	}
}
