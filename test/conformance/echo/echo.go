//go:build echo

// Package echo pins the programs of which the conformance suite's echo image is made: a server, and a client that runs in
// its pod. They are Istio's, which the suite's own image is built from.
package echo

import (
	_ "istio.io/istio/pkg/test/echo/cmd/client"
	_ "istio.io/istio/pkg/test/echo/cmd/server"
)
