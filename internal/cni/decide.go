package cni

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"
)

// withoutKeeper decides about a pod of a namespace that is not a system namespace when the keeper gave no answer.
// nil lets the pod start; otherwise the text is what an operator reads in the pod's events.
func withoutKeeper(conf *Conf, pod Pod, away error) error {
	known, err := ReadNamespaces(conf.StateDir)
	enrolled, listed := known[pod.Namespace]
	if listed && !enrolled {
		return nil
	}
	return types.NewError(types.ErrTryAgainLater,
		fmt.Sprintf("fairlead: pod %s/%s must wait: %s, and the node's keeper does not answer", pod.Namespace, pod.Name, why(listed, err)),
		fmt.Sprintf("%v. The runtime tries again by itself. If it lasts: look at the fairlead pod of this node "+
			"(kubectl -n fairlead-system get pods -o wide), run 'fairlead check', or take the namespace out of the mesh "+
			"(kubectl label namespace %s fairlead.io/mesh-) and wait for a working keeper to learn of it.", away, pod.Namespace))
}

// why says what is known of the namespace.
func why(listed bool, err error) string {
	switch {
	case listed:
		return "its namespace is in the mesh"
	case err == nil:
		return "its namespace is not known on this node yet"
	case errors.Is(err, fs.ErrNotExist):
		return "no keeper has run on this node yet, so its namespace is unknown"
	default:
		return fmt.Sprintf("its namespace is unknown (%v)", err)
	}
}
