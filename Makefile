# make            builds the four programs for this machine's architecture into bin/
# make test       every test, as an ordinary user, offline once the modules are there
# make demo       the story on this machine: two environments, real pushes, under 30 s

PROGRAMS = hooks/pre-receive hooks/proc-receive hooks/post-receive install/bluegreen
GO       = go
# The same source gives the same bytes, wherever it lies.
BUILD    = CGO_ENABLED=0 GOFLAGS=-mod=readonly $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

.PHONY: all build test lint demo clean bin/amd64 bin/arm64
all: build

build:
	@mkdir -p bin
	$(BUILD) -o bin/ $(PROGRAMS:%=./%)

# The programs for both architectures, in bin/amd64 and bin/arm64.
cross: bin/amd64 bin/arm64
bin/amd64 bin/arm64:
	@mkdir -p $@
	GOOS=linux GOARCH=$(notdir $@) $(BUILD) -o $@/ $(PROGRAMS:%=./%)

test:
	$(GO) test -race ./...

lint:
	@unformatted=$$(gofmt -l hooks install internal examples); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags faults ./...
	$(GO) tool staticcheck ./...
	$(GO) mod verify

demo: build
	$(GO) run ./examples/demo -bin bin

clean:
	rm -rf bin
