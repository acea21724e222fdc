#!/bin/sh
# Generates the Go code of the two services, with the plugins that test/tools pins. Needs protoc.
set -eu
cd "$(dirname "$0")/../../.."
tool() { (cd test/tools && go tool -n "$1"); }
protoc \
	--plugin="$(tool protoc-gen-go)" --go_out=. --go_opt=paths=source_relative \
	--plugin="$(tool protoc-gen-go-grpc)" --go-grpc_out=. --go-grpc_opt=paths=source_relative \
	examples/vote/proto/catalog.proto examples/vote/proto/ballot.proto
