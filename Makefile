# Fairlead: `make help` lists the targets.
GO        ?= go
BIN       := $(CURDIR)/bin
PLUGINS   := main/ptp main/bridge main/loopback ipam/host-local
export CGO_ENABLED ?= 0
LDFLAGS   := -s -w -X fairlead.io/fairlead/internal/admin.Version=$(shell git describe --always --dirty 2>/dev/null || echo devel)

# Packages whose tests use the kernel: one at a time, as root.
KERNEL    := ./internal/redirect/... ./internal/keeper/... ./internal/testnet/... ./cmd/cni-plugin/...

.PHONY: help build plugins generate test unit kernel system lint fuzz demo clean
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

clean: ## remove what was built
	rm -rf $(BIN) .cache
