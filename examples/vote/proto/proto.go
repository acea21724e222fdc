// Package votepb is the gRPC surface of the vote example: generated code, and the one line that generates it.
package votepb

//go:generate ./generate.sh
