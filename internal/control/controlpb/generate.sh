#!/bin/sh
# Generates the Go code of control.proto, with the plugins that test/tools pins. Needs protoc.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tool() { (cd "$here/../../../test/tools" && go tool -n "$1"); }
cd "$here"
protoc \
	--plugin="$(tool protoc-gen-go)" --go_out=. --go_opt=paths=source_relative \
	--plugin="$(tool protoc-gen-go-grpc)" --go-grpc_out=. --go-grpc_opt=paths=source_relative \
	control.proto
