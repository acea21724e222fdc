package kube

// LeaveState is how far the mesh has been left, as the leader answers GET /uninstall-state.
type LeaveState struct {
	Closed   bool           `json:"closed"`   // the leader has seen the sign to leave
	InMesh   int            `json:"inMesh"`   // pods that are announced as in the mesh
	Captured map[string]int `json:"captured"` // pods that the keeper of a node has captured, of those connected
}

// Left tells whether nobody is in the mesh any more.
func (s LeaveState) Left() bool {
	for _, n := range s.Captured {
		if n > 0 {
			return false
		}
	}
	return s.Closed && s.InMesh == 0
}
