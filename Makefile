# Fairlead: `make help` lists the targets.
GO        ?= go
BIN       := $(CURDIR)/bin
PLUGINS   := main/ptp main/bridge main/loopback ipam/host-local
export CGO_ENABLED ?= 0
LDFLAGS   := -s -w -X fairlead.io/fairlead/internal/admin.Version=$(shell git describe --always --dirty 2>/dev/null || echo devel)

# Packages whose tests use the kernel: one at a time, as root.
KERNEL    := internal/redirect internal/keeper internal/node internal/testnet cmd/cni-plugin cmd/nodeproxy
FUZZTIME  ?= 1m
NODES     ?= 2
# The race detector needs a C compiler; without one the tests run without it, and say so.
RACE       = $(shell command -v gcc >/dev/null 2>&1 && echo -race)
TOOL      := $(GO) tool -modfile=$(CURDIR)/test/tools/go.mod

.PHONY: help build plugins demo test packages unit kernel kernels system cluster cluster-build cluster-down lint fuzz generate generate-check clean
help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build the programs and the example into bin/
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/... ./examples/vote/cmd/... ./test/demo

plugins: ## build the reference CNI plugins that the simulated nodes use
	@mkdir -p $(BIN)/cni
	cd test/plugins && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/cni/ $(PLUGINS:%=github.com/containernetworking/plugins/plugins/%)

demo: build plugins ## two nodes, one controller and the vote application: ARGS="--once" or ARGS="--once --mesh=off"
	@$(BIN)/demo --bin $(BIN) $(ARGS)

test: packages generate-check unit kernel system ## all tests; as root the kernel, node and system tests too

packages: ## install the Debian packages that the tests use, as root
	@test/packages

unit: ## what needs no root, under -race
	$(GO) vet ./...
	@command -v gcc >/dev/null || { echo "no C compiler: the tests run without the race detector" >&2; [ "$$CI" != true ]; }
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) $$($(GO) list ./... | grep -vE '/($(subst $() ,|,$(KERNEL)))(/|$$)')

kernel: ## what needs root and the kernel, under -race, one package at a time
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -count=1 -p 1 $(KERNEL:%=./%/...)

kernels: ## the kernel tests in virtual machines with the kernels of Debian: KERNELS="6.1 6.12"
	test/kernels/run $(KERNELS)

system: ## real programs, faults and h2spec, in whole nodes; and the parts of the cluster's launcher
	cd test/system && $(GO) vet ./... && $(GO) test -count=1 -timeout 15m ./...
	cd test/cluster && $(GO) vet ./... && $(GO) test -count=1 ./...

cluster-build: ## build the launcher of the cluster into bin/; cluster builds the rest
	@mkdir -p $(BIN)
	cd test/cluster && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/ ./cmd/cluster

cluster: cluster-build ## a real Kubernetes on this machine, as root: NODES=2 ARGS="--dual-stack"; the first build takes 10 minutes or more
	$(BIN)/cluster up --nodes $(NODES) $(ARGS)

cluster-down: cluster-build ## end the cluster; nothing of it is left
	$(BIN)/cluster down

lint: ## golangci-lint, pinned in test/tools, here, in test/system and in test/cluster
	$(TOOL) golangci-lint run ./...
	cd test/system && $(TOOL) golangci-lint run ./...
	cd test/cluster && $(TOOL) golangci-lint run ./...

fuzz: ## every fuzz target for FUZZTIME, one after the other: 25 minutes with the 1m it is, 3 with FUZZTIME=2s
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal | sort); do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "$$file $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
	  done; done

generate: ## the BPF objects and the protobuf code: clang-16, llvm-16 and protobuf-compiler are needed
	$(GO) generate ./...

generate-check: ## are the generated files those that the sources give?
	test/generate

clean: ## remove what was built
	rm -rf $(BIN) .cache
