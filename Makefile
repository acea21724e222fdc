# Fairlead: `make help` lists the targets.
GO        ?= go
BIN       := $(CURDIR)/bin
DIST      := $(CURDIR)/dist
PLUGINS   := main/ptp main/bridge main/loopback ipam/host-local
export CGO_ENABLED ?= 0
VERSION   := $(shell git describe --always --dirty 2>/dev/null || echo devel)
LDFLAGS   := -s -w -X fairlead.io/fairlead/internal/admin.Version=$(VERSION)
# Architectures of the images, and what goes into them.
ARCH      ?= amd64 arm64
PROGRAMS  := ./cmd/nodeproxy ./cmd/cni-plugin ./cmd/controller ./examples/vote/cmd/...

# Packages whose tests use the kernel: one at a time, as root.
KERNEL    := internal/redirect internal/keeper internal/node internal/testnet cmd/cni-plugin cmd/nodeproxy
FUZZTIME  ?= 1m
SOAK      ?= 10m
NODES     ?= 2
# The race detector needs a C compiler; without one the tests run without it, and say so.
RACE       = $(shell command -v gcc >/dev/null 2>&1 && echo -race)
TOOL      := $(GO) tool -modfile=$(CURDIR)/test/tools/go.mod

.PHONY: help build plugins images chart push registry-given rules demo test alone packages unit kernel kernels system cluster cluster-build cluster-down e2e e2e-images conformance conformance-image bench soak lint fuzz generate generate-check clean
help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build the programs and the example into bin/
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/... ./examples/vote/cmd/... ./test/demo

plugins: ## build the reference CNI plugins that the simulated nodes use
	@mkdir -p $(BIN)/cni
	cd test/plugins && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/cni/ $(PLUGINS:%=github.com/containernetworking/plugins/plugins/%)

images: ## write OCI images into dist/images, without a container engine: ARCH=amd64 for one architecture
	@set -e; for arch in $(ARCH); do mkdir -p $(DIST)/bin/linux_$$arch; \
	  GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(DIST)/bin/linux_$$arch/ $(PROGRAMS); done
	@cd deploy/images && $(GO) run . build --bin $(DIST)/bin --out $(DIST)/images --arch $$(echo $(ARCH) | tr ' ' ,) --version $(VERSION) \
	  --revision "$$(git rev-parse HEAD 2>/dev/null)" --created "$$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
	  --also $$(sed -n 's/^appVersion: //p' $(CURDIR)/deploy/daemonset/Chart.yaml)

chart: ## package the Helm chart into dist/chart, for the images of this version
	$(GO) run ./deploy/chart -version $(VERSION) -out $(DIST)/chart

push: registry-given images ## push images and chart: REGISTRY=host/path, INSECURE=1 for plain HTTP to another machine
	@chart=$$($(GO) run ./deploy/chart -version $(VERSION) -repository $(REGISTRY) -out $(DIST)/push) && cd deploy/images && \
	  $(GO) run . push --registry $(REGISTRY) --version $(VERSION) --images $(DIST)/images --chart "$$chart" $(if $(INSECURE),--insecure)

registry-given: # before anything is built for a push
	@[ -n "$(REGISTRY)" ] || { echo "usage: make push REGISTRY=host/path" >&2; exit 2; }
images: $(if $(filter push,$(MAKECMDGOALS)),| registry-given)

demo: build plugins ## two nodes, one controller and the vote application: ARGS="--once" or ARGS="--once --mesh=off"
	@$(BIN)/demo --bin $(BIN) $(ARGS)

test: packages ## all tests; as root the kernel, node and system tests too. Two at a time: those of whole nodes wait most of their time
	$(MAKE) -j2 -O system alone

alone: # what uses a processor whole, one after the other
	$(MAKE) generate-check
	$(MAKE) unit
	$(MAKE) kernel
	cd test/e2e && $(GO) vet ./...

packages: ## install the Debian packages that the tests use, as root
	@test/packages

unit: ## what needs no root, under -race
	$(GO) vet ./...
	@command -v gcc >/dev/null || { echo "no C compiler: the tests run without the race detector" >&2; [ "$$CI" != true ]; }
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) $$($(GO) list ./... | grep -vE '/($(subst $() ,|,$(KERNEL)))(/|$$)')
	$(GO) test -count=1 -run Allocations ./internal/l7/... # the race detector allocates, too
	cd deploy/images && $(GO) vet ./... && $(GO) test ./...
	cd bench && $(GO) vet ./... && $(GO) test ./...
	cd test/crds && $(GO) vet ./... && $(GO) test ./...

rules: ## check and test the Prometheus rules with promtool
	CI=true $(GO) test -count=1 -run 'TestRules' ./deploy

kernel: ## what needs root and the kernel, under -race, one package at a time
	CGO_ENABLED=$(if $(RACE),1,0) $(GO) test $(RACE) -count=1 -p 1 $(KERNEL:%=./%/...)

kernels: ## the kernel tests in virtual machines with the kernels of Debian: KERNELS="6.1 6.12"
	test/kernels/run $(KERNELS)

system: ## real programs, faults and h2spec, in whole nodes; and the parts of the cluster's launcher
	cd test/system && $(GO) vet ./... && $(GO) test -count=1 -parallel 4 -timeout 15m ./...
	cd test/cluster && $(GO) vet ./... && $(GO) test -count=1 ./...

cluster-build: ## build the launcher of the cluster into bin/; cluster builds the rest
	@mkdir -p $(BIN)
	cd test/cluster && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/ ./cmd/cluster

cluster: cluster-build ## a real Kubernetes on this machine, as root: NODES=2 ARGS="--dual-stack"; the first build takes 10 minutes or more
	$(BIN)/cluster up --nodes $(NODES) $(ARGS)

cluster-down: cluster-build ## end the cluster; nothing of it is left
	$(BIN)/cluster down

e2e: packages build cluster-build e2e-images ## the whole product on a real Kubernetes; on the cluster of KUBECONFIG if that is set
	$(MAKE) images ARCH=$(shell $(GO) env GOARCH)
	@[ -n "$$KUBECONFIG" ] || $(BIN)/cluster build
	cd test/e2e && $(GO) vet ./... && GO=$(GO) ./run $(E2EFLAGS)

e2e-images: ## the images of the tests' own workloads
	@mkdir -p $(BIN)/e2e $(DIST)/images
	cd test/system && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/e2e/ ./cmd/load ./cmd/web ./cmd/greeter
	cd test/e2e && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/e2e/ ./cmd/agent ./cmd/image
	cd $(BIN)/e2e && ./image -o $(DIST)/images/e2e.tar -name docker.io/library/fairlead-e2e:dev agent=/agent load=/load web=/web greeter=/greeter
	cd $(BIN)/e2e && ./image -o $(DIST)/images/nginx.tar -name docker.io/library/fairlead-e2e-nginx:dev -libraries /usr/sbin/nginx=/usr/sbin/nginx

conformance: packages build cluster-build conformance-image ## the Gateway API's conformance suite, on a real Kubernetes; on the cluster of KUBECONFIG if that is set
	$(MAKE) images ARCH=$(shell $(GO) env GOARCH)
	@[ -n "$$KUBECONFIG" ] || $(BIN)/cluster build
	@mkdir -p docs/conformance
	cd test/conformance && $(GO) vet ./... && VERSION=$(VERSION) $(GO) test -count=1 -timeout 40m -report $(CURDIR)/docs/conformance/report.yaml $(ARGS) .

conformance-image: ## the echo image of that suite
	@mkdir -p $(BIN)/e2e $(BIN)/conformance $(DIST)/images
	cd test/conformance/echo && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/conformance/ istio.io/istio/pkg/test/echo/cmd/client istio.io/istio/pkg/test/echo/cmd/server
	cd test/conformance && $(GO) run ./cmd/prepare $(BIN)/conformance
	cd test/e2e && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/e2e/ ./cmd/image
	cd $(BIN)/conformance && ../e2e/image -o $(DIST)/images/echo.tar -name $$(cat name) -entrypoint /server server=/server client=/client cert.crt=/cert.crt key.pem=/cert.key

bench: build plugins ## what a request costs beside other proxies, as root: ARGS=--quick takes five minutes, without it 40
	@test/packages haproxy nghttp2-client nginx-light python3-venv
	@mkdir -p $(BIN)/bench
	cd bench && $(GO) vet ./... && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/bench/ ./...
	@$(BIN)/bench/bench --bin $(BIN) $(ARGS)

soak: build plugins ## ten minutes at half load while everything comes and goes, as root: SOAK=60s; ARGS=noisy for a noisy neighbour instead
	@mkdir -p $(BIN)/bench
	cd bench && $(GO) vet ./... && $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/bench/ ./cmd/soak ./cmd/drive
	@$(BIN)/bench/soak --bin $(BIN) --for=$(SOAK) $(ARGS)

LINTED := . test/system test/cluster test/crds test/e2e bench deploy/images
lint: ## golangci-lint, pinned in test/tools, in every module that has code of ours
	@set -e; for dir in $(LINTED); do (cd $$dir && $(TOOL) golangci-lint run ./...); done


fuzz: ## every fuzz target for FUZZTIME, one after the other: 25 minutes with the 1m it is, 3 with FUZZTIME=2s
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal | sort); do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
	    echo "$$file $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
	  done; done

generate: ## the BPF objects, the protobuf code and the CRDs: clang-16, llvm-16 and protobuf-compiler are needed
	$(GO) generate ./...

generate-check: ## are the generated files those that the sources give?
	test/generate

clean: ## remove what was built
	rm -rf $(BIN) $(DIST) .cache
