// Command report reads what a machine of test/kernels printed and says how each test ended. It fails unless the tests ran
// to their end, none failed, and every skip is for a feature whose first kernel is newer than the machine's.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	out, err := read(os.Stdin)
	out.print(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		os.Exit(1)
	}
}

// outcome is what one machine's tests came to.
type outcome struct {
	kernel  string
	passed  []string
	failed  []string
	skipped []skip
	costs   []string // what the verifier says of each program
	lines   []string // all that was printed
}

type skip struct{ test, reason string }

var (
	kernelLine = regexp.MustCompile(`fairlead-kernels: Linux (\S+)`)
	endLine    = regexp.MustCompile(`^fairlead-kernels: tests ended with (\d+)`)
	resultLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
	runLine    = regexp.MustCompile(`^=== (?:RUN|NAME|CONT)\s+(\S+)`)
	needsLine  = regexp.MustCompile(`needs Linux (\d+)\.(\d+)`)
	costLine   = regexp.MustCompile(`\w+_test\.go:\d+: (.* instructions, .* verified.*)`)
	release    = regexp.MustCompile(`^(\d+)\.(\d+)`)
)

const maxLines = 200_000

func read(r io.Reader) (outcome, error) {
	var o outcome
	reason := map[string]string{} // the last line of each test: of a skipped one, why
	current, end := "", ""
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(o.lines) < maxLines {
		line := strings.TrimRight(lines.Text(), "\r")
		o.lines = append(o.lines, line)
		if m := kernelLine.FindStringSubmatch(line); m != nil {
			o.kernel = m[1]
		} else if m := endLine.FindStringSubmatch(line); m != nil {
			end = m[1]
		} else if m := runLine.FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := resultLine.FindStringSubmatch(line); m != nil {
			o.add(m[1], m[2], reason[m[2]])
		} else if m := costLine.FindStringSubmatch(line); m != nil {
			o.costs = append(o.costs, m[1])
		} else {
			reason[current] = strings.TrimSpace(line)
		}
	}
	if err := lines.Err(); err != nil {
		return o, fmt.Errorf("read the machine's output: %w", err)
	}
	return o, o.judge(end)
}

func (o *outcome) add(result, test, reason string) {
	switch result {
	case "PASS":
		o.passed = append(o.passed, test)
	case "FAIL":
		o.failed = append(o.failed, test)
	case "SKIP":
		o.skipped = append(o.skipped, skip{test, reason})
	}
}

func (o *outcome) judge(end string) error {
	switch {
	case o.kernel == "":
		return fmt.Errorf("the machine did not start:\n%s", o.tail())
	case end == "":
		return fmt.Errorf("the tests did not end:\n%s", o.tail())
	case end != "0" || len(o.failed) > 0:
		return fmt.Errorf("the tests ended with %s:\n%s", end, o.tail())
	case len(o.passed) == 0:
		return fmt.Errorf("no test ran:\n%s", o.tail())
	}
	for _, s := range o.skipped {
		if !excused(s.reason, o.kernel) {
			return fmt.Errorf("%s was skipped on Linux %s: %s", s.test, o.kernel, s.reason)
		}
	}
	return nil
}

// excused tells whether the reason names a minimum that the kernel is below.
func excused(reason, kernel string) bool {
	need, have := needsLine.FindStringSubmatch(reason), release.FindStringSubmatch(kernel)
	if need == nil || have == nil {
		return false
	}
	number := func(m []string) int {
		major, _ := strconv.Atoi(m[1])
		minor, _ := strconv.Atoi(m[2])
		return major<<16 + minor
	}
	return number(have) < number(need)
}

func (o *outcome) print(w io.Writer) {
	for _, t := range o.passed {
		fmt.Fprintln(w, "  pass", t)
	}
	for _, s := range o.skipped {
		fmt.Fprintf(w, "  skip %s: %s\n", s.test, s.reason)
	}
	for _, t := range o.failed {
		fmt.Fprintln(w, "  FAIL", t)
	}
	for _, c := range o.costs {
		fmt.Fprintln(w, "  cost", c)
	}
	fmt.Fprintf(w, "  Linux %s: %d passed, %d skipped, %d failed\n", o.kernel, len(o.passed), len(o.skipped), len(o.failed))
}

// tail is the end of what was printed, without the lines that say nothing.
func (o *outcome) tail() string {
	var said []string
	for _, line := range o.lines {
		if strings.TrimSpace(line) != "" && !runLine.MatchString(line) && !strings.Contains(line, "--- PASS") {
			said = append(said, line)
		}
	}
	return strings.Join(said[max(0, len(said)-100):], "\n")
}
