# make            builds the four programs: bin/ for this machine, bin/linux-amd64
#                 and bin/linux-arm64 for servers
# make test       every test, as an ordinary user, offline once the modules are there
# make lint       formatting, vet, staticcheck
# make fuzz       every fuzz target for FUZZTIME each
# make e2e        what needs root and Debian packages: the README's walk-through on
#                 two servers and a developer's machine that are one machine, and
#                 the examples with a real nginx and a real cloud-init; under 5 min
#                 (apt-get install apache2 nginx-light openssh-server
#                 openssh-client sudo iproute2 nftables curl ca-certificates
#                 cloud-init gettext-base)
# make dist       dist/: tarballs and Debian packages for servers, bills of materials,
#                 SHA256SUMS; the same bytes from the same commit. It downloads
#                 the tools of install/tools/go.mod
# make demo       the story on this machine: two environments, a floating IP in a
#                 simulated cloud, real pushes, visitors; under 30 s. With
#                 SVG=timeline.svg what the visitors saw becomes a picture, too

PROGRAMS = hooks/pre-receive hooks/proc-receive hooks/post-receive install/bluegreen
GO       = go
# The same source gives the same bytes, wherever it lies.
BUILD    = CGO_ENABLED=0 GOFLAGS=-mod=readonly $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

.PHONY: all build native cross test lint fuzz e2e dist demo clean
all: build

build: native cross

# For this machine.
native:
	@mkdir -p bin
	$(BUILD) -o bin/ $(PROGRAMS:%=./%)

# For servers: bin/linux-amd64 and bin/linux-arm64.
cross: bin/linux-amd64 bin/linux-arm64
.PHONY: bin/linux-amd64 bin/linux-arm64
bin/linux-amd64 bin/linux-arm64:
	@mkdir -p $@
	GOOS=linux GOARCH=$(patsubst bin/linux-%,%,$@) $(BUILD) -o $@/ $(PROGRAMS:%=./%)

# The tests sync thousands of small files: memory spares the disk, where there
# is enough of it and programs may be run from it.
MEMORY = $(shell f=$$(mktemp /dev/shm/bluegreen.XXXXXX 2>/dev/null) && echo : >$$f && chmod +x $$f && $$f && \
	[ $$(df -Pk /dev/shm | awk 'END {print $$4}') -gt 1500000 ] && echo /dev/shm; rm -f $$f)
# Many tests mostly wait: more of them run at once than there are processors.
test:
	TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) $(GO) test -race -parallel 6 ./...

lint:
	@unformatted=$$(gofmt -l hooks install internal examples); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags faults ./...
	$(GO) vet -tags e2e ./...
	$(GO) tool staticcheck ./...
	$(GO) mod verify

# Every fuzz target for FUZZTIME.
FUZZTIME = 30s
fuzz:
	@export TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}); $(GO) list ./... | while read -r package; do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s $$package || exit 1; \
		done; \
	done

# What needs Debian packages, and root for namespaces. What it measures is in
# the output, in lines with MEASURED.
e2e:
	$(GO) test -tags e2e -count=1 ./examples/nginx/ ./examples/cloud-init/ ./examples/terraform/
	$(GO) test -tags e2e -count=1 -timeout 4m -v ./install/e2e/

dist: build
	install/package/dist

demo: native
	$(GO) run ./examples/demo -bin bin $(if $(SVG),-svg "$(SVG)")

clean:
	rm -rf bin dist
