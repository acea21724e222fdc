// Package cni is what the CNI plugin and the keeper say to each other when a pod starts and ends, and what the plugin
// decides when the keeper does not answer. It imports the standard library and containernetworking/cni only.
//
// Promises:
//  1. One request and one reply a connection, each one JSON message of at most MaxMessage bytes in one SOCK_SEQPACKET
//     packet; a pod's network namespace travels as a file descriptor, so no path can be swapped on the way.
//  2. Every wait has a deadline: the caller's budget travels with the request, and neither end outlives it.
//  3. A pod of a namespace that is known as not enrolled, or is a system namespace, is never stopped by the absence of
//     anything of ours; system namespaces do not even need the state on disk.
//  4. A pod of an enrolled or unknown namespace never starts outside the mesh: without the keeper's word the plugin
//     fails with CNI code 11 (try again later), and its message says what to do.
//  5. No descriptor and no goroutine is left when Call, Server.Run or Decode return, whatever the peer sent.
package cni

import (
	"slices"
	"time"
)

// Where the two ends meet unless configured otherwise.
const (
	DefaultSocket   = "/run/fairlead/cni.sock"
	DefaultStateDir = "/var/lib/fairlead"
	DefaultTimeout  = 5 * time.Second
	maxTimeout      = time.Minute
)

// DefaultSystemNamespaces are the namespaces whose pods always pass: the cluster's own, and ours.
func DefaultSystemNamespaces() []string { return []string{"kube-system", "fairlead-system"} }

func isSystem(list []string, namespace string) bool { return slices.Contains(list, namespace) }

// SupportedVersions are the versions of the CNI specification that the plugin speaks.
func SupportedVersions() []string { return []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} }
