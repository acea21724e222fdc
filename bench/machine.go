package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures are of.
type machine struct {
	Date       string `json:"date"`
	Command    string `json:"command"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Kernel     string `json:"kernel"`
	Fairlead   string `json:"fairlead"`
	Go         string `json:"go"`
	HAProxy    string `json:"haproxy"`
	Nginx      string `json:"nginx"`
	Envoy      string `json:"envoy"`
	H2load     string `json:"h2load"`
	LoadAvg    string `json:"load_average"` // before the first run
}

// look finds out about the machine.
func look(ctx context.Context) machine {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	return machine{Date: time.Now().UTC().Format(time.DateOnly), Processor: processor(), Processors: runtime.NumCPU(), Kernel: unix.ByteSliceToString(u.Release[:]),
		Fairlead: firstLine(ctx, "git", "describe", "--always", "--dirty"), Go: goVersion(), HAProxy: firstLine(ctx, "haproxy", "-v"),
		Nginx: firstLine(ctx, "nginx", "-v"), Envoy: "not measured", H2load: firstLine(ctx, "h2load", "--version"), LoadAvg: loadAverage()}
}

// goVersion is that of the compiler, which is the proxies' too: they are built by the same command.
func goVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		return b.GoVersion
	}
	return runtime.Version()
}

// command is how the bench was started, for whoever wants the same.
func command(args []string) string {
	for i := 0; i < len(args); i++ {
		if args[i] == "--bin" && i+1 < len(args) {
			args = append(append([]string(nil), args[:i]...), args[i+2:]...)
		}
	}
	if len(args) == 0 {
		return "make bench"
	}
	text := strings.Join(args, " ")
	if len(args) > 1 {
		text = `"` + text + `"`
	}
	return "make bench ARGS=" + text
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.Trim(name, "\t: ")
		}
	}
	return "unknown"
}

// firstLine is the first line that a program prints, wherever it prints it.
func firstLine(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	name, _, _ = strings.Cut(string(line), " - ") // where it is published
	return name
}

// envoyVersion is the one of a line like "/path/envoy  version: HASH/1.2.3/Clean/RELEASE/BoringSSL".
func envoyVersion(line string) string {
	_, version, ok := strings.Cut(line, "version: ")
	parts := strings.Split(version, "/")
	if !ok || len(parts) < 2 {
		return line
	}
	return "Envoy " + parts[1]
}
