// Command stopwatch stands in for a CNI plugin: it runs the one that STOPWATCH_PLUGIN names, and appends to the file
// STOPWATCH_LOG a line with the command and the nanoseconds that it took, fork and exec included.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	cmd := exec.Command(os.Getenv("STOPWATCH_PLUGIN"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	log, openErr := os.OpenFile(os.Getenv("STOPWATCH_LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if openErr == nil {
		_, openErr = fmt.Fprintf(log, "%s %d\n", os.Getenv("CNI_COMMAND"), took.Nanoseconds())
		openErr = errors.Join(openErr, log.Close())
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err = errors.Join(err, openErr); err != nil {
		fmt.Fprintln(os.Stderr, "stopwatch:", err)
		return 1
	}
	return 0
}
