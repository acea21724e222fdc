package check

import (
	"fmt"
	"io"
	"strings"
)

var signs = map[Status]string{OK: "✓", Warning: "!", Failure: "✗", Skipped: "-"}

// Print writes a report for people; short leaves out what is well.
func (r *Report) Print(w io.Writer, short bool) {
	for _, g := range r.Groups {
		headed := false
		for _, c := range g.Checks {
			if short && (c.Status == OK || c.Status == Skipped) {
				continue
			}
			if !headed {
				headed = true
				fmt.Fprintf(w, "%s\n%s\n", g.Name, strings.Repeat("-", len(g.Name)))
			}
			c.print(w)
		}
		if headed {
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w, r.verdict())
}

func (c *Result) print(w io.Writer) {
	fmt.Fprintf(w, "%s %s\n", signs[c.Status], c.About)
	if c.Skipped != "" {
		fmt.Fprintf(w, "    skipped: %s\n", c.Skipped)
	}
	for _, f := range c.Findings {
		fmt.Fprintf(w, "    %s\n", f.Text)
		if f.Hint != "" {
			fmt.Fprintf(w, "      hint: %s\n", f.Hint)
		}
	}
	if len(c.Findings) > 0 {
		fmt.Fprintf(w, "    see %s\n", c.See)
	}
}

func (r *Report) verdict() string {
	counts := fmt.Sprintf("%s, %s", count(r.Failures, "failure"), count(r.Warnings, "warning"))
	if r.Success {
		return "Status: " + signs[OK] + " " + counts
	}
	return "Status: " + signs[Failure] + " " + counts
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
