package mesh

import "time"

// Enrolment is what a keeper must know of one pod of its node.
type Enrolment struct {
	UID        string
	Name       Name
	Account    Account
	Workload   string
	Enrolled   bool // to be captured; otherwise to be let through, or released if it is captured
	ProbePorts []uint16
	Drain      time.Duration // how long its connections may go on after it has left
}
