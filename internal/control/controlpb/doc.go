// Package controlpb is the generated code of control.proto: the messages between controller and node.
package controlpb

//go:generate ./generate.sh
