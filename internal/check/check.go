// Package check finds out whether a cluster can have Fairlead, and whether the one that it has works.
//
// Promises:
//  1. A check asks for one thing. What it finds says what is wrong, and how to mend it: a failure without a hint is a
//     mistake of ours, and a test finds it.
//  2. Each check has a section in docs/CHECKS.md under its ID; a test holds the page to the table of checks.
//  3. It changes nothing in the cluster. What it asks for is asked for once in a run, however many checks look at it.
//  4. What cannot be found out, because the user may not see it, is skipped and says why; it is never taken for good.
package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairlead.io/fairlead/internal/kube/remote"
)

// Check is one question.
type Check struct {
	ID    string // its section in docs/CHECKS.md
	About string // what holds if it finds nothing
	Run   func(context.Context, *State) ([]Finding, error)
	// Needed is true if nothing that comes after it can be found out where it fails.
	Needed bool
}

// Group is checks under one heading.
type Group struct {
	Name   string
	Checks []Check
}

// Finding is something that is not as it should be.
type Finding struct {
	Text string `json:"text"`
	Hint string `json:"hint"` // what mends it
	Warn bool   `json:"-"`    // it works nevertheless
}

// failed and warned make findings.
func failed(hint, format string, args ...any) Finding {
	return Finding{Text: fmt.Sprintf(format, args...), Hint: hint}
}

func warned(hint, format string, args ...any) Finding {
	return Finding{Text: fmt.Sprintf(format, args...), Hint: hint, Warn: true}
}

// skip is the error of a check that has nothing to look at.
type skip string

func (s skip) Error() string { return string(s) }

// Status is what a check comes to.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Skipped Status = "skipped"
	Warning Status = "warning"
	Failure Status = "failure"
)

// Result of a check.
type Result struct {
	ID       string    `json:"id"`
	About    string    `json:"about"`
	Status   Status    `json:"status"`
	Skipped  string    `json:"skipped,omitempty"` // why
	Findings []Finding `json:"findings,omitempty"`
	See      string    `json:"see"` // where it is explained
}

// GroupResult is the results of a group.
type GroupResult struct {
	Name   string   `json:"name"`
	Checks []Result `json:"checks"`
}

// Report is a whole run.
type Report struct {
	Success  bool          `json:"success"`
	Failures int           `json:"failures"`
	Warnings int           `json:"warnings"`
	Groups   []GroupResult `json:"groups"`
}

// page explains every check.
const page = "docs/CHECKS.md"

// groupTimeout bounds one check: it may ask every node, several times.
const checkTimeout = time.Minute

// Run runs the groups in order. Once a needed check has failed, the rest is skipped.
func Run(ctx context.Context, s *State, groups []Group) *Report {
	report := &Report{Success: true}
	blocked := ""
	for _, g := range groups {
		gr := GroupResult{Name: g.Name}
		for _, c := range g.Checks {
			r := Result{ID: c.ID, About: c.About, Status: Skipped, Skipped: blocked, See: page + "#" + c.ID}
			if blocked == "" {
				r.fill(run(ctx, c, s))
			}
			switch r.Status {
			case Failure:
				report.Failures++
				report.Success = false
				if c.Needed {
					blocked = "it needs the check " + c.ID
				}
			case Warning:
				report.Warnings++
			}
			gr.Checks = append(gr.Checks, r)
		}
		report.Groups = append(report.Groups, gr)
	}
	return report
}

func run(ctx context.Context, c Check, s *State) ([]Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.Run(ctx, s)
}

// fill says what was found.
func (r *Result) fill(found []Finding, err error) {
	var why skip
	switch {
	case errors.As(err, &why):
		r.Skipped = string(why)
		return
	case remote.IsForbidden(err):
		r.Skipped = "you may not see it: " + err.Error()
		return
	case err != nil:
		found = append(found, failed("run the check again; if it stays, look into the API server's log", "cannot be found out: %v", err))
	}
	r.Status, r.Findings = OK, found
	for _, f := range found {
		switch {
		case !f.Warn:
			r.Status = Failure
		case r.Status == OK:
			r.Status = Warning
		}
	}
}
