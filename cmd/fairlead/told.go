package main

import (
	"fmt"

	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/traffic"
)

// missed says who has not answered.
func missed[T any](told []fleet.Told[T]) []string {
	var all []string
	for _, t := range told {
		if t.Err != nil {
			all = append(all, fmt.Sprintf("node %s: %v", t.Node(), t.Err))
		}
	}
	return all
}

// nobody is an error if no proxy has answered: an empty table would say that there is nothing.
func nobody[T any](told []fleet.Told[T]) error {
	if all := missed(told); len(all) == len(told) {
		if len(all) == 0 {
			return fmt.Errorf("%w: there is no pod of the DaemonSet %s; `fairlead check` says more", traffic.ErrNobody, fleet.NodeName)
		}
		return fmt.Errorf("%w: %s; `fairlead check` says more", traffic.ErrNobody, all[0])
	}
	return nil
}
