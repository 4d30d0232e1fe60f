# make            builds the four programs: bin/ for this machine, bin/linux-amd64
#                 and bin/linux-arm64 for servers
# make test       every test, as an ordinary user, offline once the modules are there
# make lint       formatting, vet, staticcheck
# make vuln       known vulnerabilities in what the programs call (from vuln.go.dev)
# make fuzz       every fuzz target for FUZZTIME each, from the inputs that are kept in
#                 .ci/corpus.tar.gz; KEEP=1 keeps what is found
# make faults     kills at every single step; kills at system calls from outside, and
#                 lets calls fail; cuts the power, fills and takes away disks, limits
#                 what a deployment may use, breaks connections, swaps directories for
#                 symlinks meanwhile, has crowds push and visitors watch: for FAULTS
#                 each kind of deployment where there is no end, and a table of what
#                 was struck and what was found then. It needs root for most (apt-get
#                 install strace openssh-server openssh-client xfsprogs btrfs-progs);
#                 what it cannot do it says
# make e2e        what needs root and Debian packages: the README's walk-through on
#                 two servers and a developer's machine that are one machine, and
#                 the examples with a real nginx, a real cloud-init, and a real
#                 PostgreSQL with PHP in Apache, and a short form of make faults;
#                 under 7 min (apt-get install apache2 nginx-light openssh-server
#                 openssh-client sudo iproute2 nftables curl ca-certificates
#                 cloud-init gettext-base libapache2-mod-php php-cli php-pgsql
#                 php-sqlite3 postgresql)
# make dist       dist/: tarballs and Debian packages for servers, bills of materials,
#                 SHA256SUMS; the same bytes from the same commit. It downloads
#                 the tools of install/tools/go.mod
# make demo       the story on this machine: two environments, a floating IP in a
#                 simulated cloud, real pushes, visitors; under 30 s. With
#                 SVG=timeline.svg what the visitors saw becomes a picture, too
# make bench      how fast, beside git checkout -f and git archive | tar: tables,
#                 a chart and numbers in dist/bench, in a quarter of an hour, on a
#                 machine that does nothing else; as root on ext4, too. BENCH has
#                 options, such as BENCH='-scenario cold -place tmpfs', or -help
# make profile    where the time and the memory of the hooks goes, and how many
#                 system calls they make (with strace), in dist/profile

PROGRAMS = hooks/pre-receive hooks/proc-receive hooks/post-receive install/bluegreen
GO       = go
# The same source gives the same bytes, wherever it lies.
BUILD    = CGO_ENABLED=0 GOFLAGS=-mod=readonly $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -buildid="

.PHONY: all build native cross test lint vuln fuzz faults e2e dist demo bench profile clean
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
# Each package's end would take another second, by the race detector's default.
test:
	TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) GORACE=atexit_sleep_ms=50 $(GO) test -race -parallel 6 ./...

lint:
	@unformatted=$$(gofmt -l hooks install internal examples); \
		if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags faults ./...
	$(GO) vet -tags e2e ./...
	$(GO) vet -tags profile ./...
	$(GO) tool staticcheck ./...
	$(GO) mod verify

# Known vulnerabilities in what the programs call; its database is on the network.
vuln:
	$(GO) tool govulncheck ./...

# Every fuzz target for FUZZTIME, or as many inputs: FUZZTIME=1000000x.
FUZZTIME = 30s
fuzz:
	TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) .ci/fuzz $(FUZZTIME)

# Each kind of deployment for FAULTS, four side by side. Visitors and crowds come
# last, when the machine has time for them.
FAULTS = 5m
ROOT_FAULTS  = TestPowerCuts|TestNoRoom|TestDiskFails|TestLimits|TestConnectionBreaks
FAULT_TESTS  = TestAtSystemCalls|TestPromotionAtSystemCalls|TestSwaps|TestBombs|TestKilledAtEveryStep|TestPromotionKilledAtEveryStep|$(ROOT_FAULTS)
CROWDS       = TestCrowd|TestNobodySeesAMixture
SHORT_FAULTS = $(ROOT_FAULTS)|$(CROWDS)
faults:
	@mkdir -p dist
	@export BLUEGREEN_EVERY_STEP=1 BLUEGREEN_FAULTS=$(FAULTS) TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}); \
		run="$(GO) test -tags e2e -count=1 -timeout 3h -v"; \
		{ $$run -parallel 4 -run '^($(FAULT_TESTS))$$' ./hooks && $$run -parallel 1 -run '^($(CROWDS))$$' ./hooks; } >dist/faults.log || \
		{ grep -v '^=== ' dist/faults.log; exit 1; }
	@grep -B1 -A1 '^ *--- SKIP' dist/faults.log | grep '_test.go' || true
	@echo '| what struck | times | new commit after it | old one | mixed | not recovered | lost history lines | hung hooks |'
	@echo '| --- | --: | --: | --: | --: | --: | --: | --: |'
	@sed -n 's/^ *[a-z_]*_test.go:[0-9]*: |/|/p' dist/faults.log | sort

# What needs Debian packages, and root for namespaces. What it measures is in
# the output, in lines with MEASURED.
e2e:
	$(GO) test -tags e2e -count=1 ./examples/nginx/ ./examples/cloud-init/ ./examples/terraform/ ./examples/turquoise/
	$(GO) test -tags e2e -count=1 -timeout 4m -v ./install/e2e/
	TMPDIR=$(or $(MEMORY),$${TMPDIR:-/tmp}) $(GO) test -tags e2e -count=1 -timeout 4m -parallel 2 \
		-run '^($(SHORT_FAULTS))$$' ./hooks

dist: build
	install/package/dist

demo: native
	$(GO) run ./examples/demo -bin bin $(if $(SVG),-svg "$(SVG)")

BENCH =
bench: native
	$(GO) run ./examples/bench -bin bin -out dist/bench $(BENCH)

# The programs that write profiles are not those that are released.
profile:
	@rm -rf dist/profile && mkdir -p dist/profile/bin
	CGO_ENABLED=0 $(GO) build -tags profile -trimpath -o dist/profile/bin/ $(PROGRAMS:%=./%)
	$(GO) run ./examples/bench -bin dist/profile/bin -profile dist/profile -place tmpfs -scenario few -rounds 5 $(BENCH)

clean:
	rm -rf bin dist
