# Everything from a clean clone, as root on Debian 12 or 13 with Rust: `make test`, `make demo`.
# One profile (dev) serves tests, demo and lint, so that nothing is built twice; `make build` is for installing.

CARGO ?= cargo
PREFIX ?= /usr/local
# Where the programs lie that are installed.
BUILT ?= target/release
# How many power cuts `make test-vm` makes.
CUTS ?= 60

# Debian's packages: what the programs need, what they are built with, what the demo shows, what the suite asks, and what
# the benchmark compares with beside it (docker.io's daemon starts where systemd runs; the benchmark has its own).
RUN := ca-certificates iproute2 libseccomp2 nftables
BUILD := gcc libc6-dev libseccomp-dev make pkg-config
DEMO := busybox-static util-linux
TEST := $(DEMO) binutils docker-registry e2fsprogs git mmdebstrap openssl procps qemu-system-x86 runc skopeo
PEERS := conmon docker-compose docker.io iptables podman python3 runc umoci

packages-build := $(RUN) $(BUILD)
packages-demo := $(packages-build) $(DEMO)
packages-test := $(packages-build) $(TEST)
packages-bench := $(packages-test) $(PEERS)

.DEFAULT_GOAL := help
# Two installations of packages at once would be in each other's way.
.NOTPARALLEL:
.PHONY: help deps deps-build deps-demo deps-test deps-bench build install programs test test-vm fuzz damage lint demo bench deny clean

help: ## Show what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

deps: deps-test ## Install the Debian packages that are missing for building and testing

deps-build deps-demo deps-test deps-bench: deps-%:
	@missing=$$(for package in $(packages-$*); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		set -e; export DEBIAN_FRONTEND=noninteractive; echo "installing:" $$missing; \
		apt-get update -q; apt-get install -y -q --no-install-recommends $$missing; \
	fi

build: deps-build ## Build the programs for installing, in target/release
	$(CARGO) build --release --locked --package evenkeel --package evenkeel-oci --package evenkeel-shim

install: build ## Install programs, schemas and systemd unit below PREFIX (/usr/local)
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel-oci
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel-shim
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/evenkeel schema/*.json
	install -D -m 0644 -t $(DESTDIR)/etc/systemd/system agent/evenkeel.service

programs: deps-build
	$(CARGO) build --workspace --locked

# Cargo's own runner does where nextest is not installed. The comparison with what was there before comes last and is
# silent where nothing is left.
test: deps-test programs ## Run the whole suite (as root), then look for leftovers
	@target/debug/evenkeel-test-leftovers --before target/before-tests
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
		then $(CARGO) nextest run --workspace --locked; \
		else $(CARGO) test --workspace --locked; fi; \
	status=$$?; target/debug/evenkeel-test-leftovers --check target/before-tests || status=1; exit $$status

test-vm: deps-test programs ## Run the virtual machines' tests: systemd, reboots, CUTS=60 power cuts
	EVENKEEL_VM_CUTS=$(CUTS) $(CARGO) test --locked --package evenkeel-tests --test vm -- --nocapture --include-ignored

CASES ?= 100000

fuzz: deps-build ## Read CASES (100000) archives and manifests of chance for each property
	EVENKEEL_FUZZ_CASES=$(CASES) $(CARGO) test --locked --package evenkeel-host --lib fuzz
	EVENKEEL_FUZZ_CASES=$(CASES) $(CARGO) test --locked --package evenkeel-manifests --lib without_panic

SEEDS ?= 100
FROM ?= 1

damage: deps-test programs ## Damage SEEDS (100) hosts at random, from seed FROM (1)
	EVENKEEL_DAMAGE_SEEDS=$(SEEDS) EVENKEEL_DAMAGE_FROM=$(FROM) $(CARGO) test --locked --package evenkeel-tests --test e2e random_damage

lint: deps-build ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

demo: deps-demo programs ## Show it: a page from a container, a drift found and repaired; touches nothing of the host
	@examples/quickstart/demo.sh target/debug/evenkeel

bench: deps-bench build ## Print ratios beside its peers
	$(CARGO) bench --package evenkeel-tests --bench peers
	tests/bench/shim-memory.sh 20

deny: ## Check licences and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny check

clean: ## Remove what was built
	$(CARGO) clean
