# Everything from a clean clone, as root on Debian 12 or 13 with Rust: `make test`, `make demo`.
# One profile (dev) serves tests, demo and lint, so that nothing is built twice; `make build` is for installing.

CARGO ?= cargo
PREFIX ?= /usr/local
# Where the programs lie that are installed.
BUILT ?= target/release
# How many power cuts `make test-vm` makes.
CUTS ?= 60

# What the program needs at run time, what it is built with, and what the suite asks and compares with.
PACKAGES := \
	nftables iproute2 \
	gcc libc6-dev libseccomp-dev make pkg-config ca-certificates git \
	apache2-utils busybox-static docker-registry openssl procps runc skopeo util-linux \
	binutils e2fsprogs mmdebstrap qemu-system-x86

# What `make bench` compares with; Debian starts docker.io's daemon where systemd runs, and the benchmark its own.
PEERS := conmon docker-compose docker.io iptables podman runc umoci

.DEFAULT_GOAL := help
.PHONY: help deps build install programs test test-vm fuzz damage lint demo bench deny clean

help: ## Show what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## Install the Debian packages that are missing
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		set -e; export DEBIAN_FRONTEND=noninteractive; echo "installing:" $$missing; \
		apt-get update -q; apt-get install -y -q --no-install-recommends $$missing; \
	fi

build: deps ## Build the programs for installing, in target/release
	$(CARGO) build --release --locked --package evenkeel --package evenkeel-oci --package evenkeel-shim

install: build ## Install programs and systemd unit below PREFIX (/usr/local)
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel-oci
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/evenkeel-shim
	install -D -m 0644 -t $(DESTDIR)/etc/systemd/system agent/evenkeel.service

programs: deps
	$(CARGO) build --workspace --locked

# Cargo's own runner does where nextest is not installed. The comparison with what was there before comes last and is
# silent where nothing is left.
test: programs ## Run the whole suite (as root), then look for leftovers
	@target/debug/evenkeel-test-leftovers --before target/before-tests
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
		then $(CARGO) nextest run --workspace --locked; \
		else $(CARGO) test --workspace --locked; fi; \
	status=$$?; target/debug/evenkeel-test-leftovers --check target/before-tests || status=1; exit $$status

test-vm: programs ## Run the virtual machines' tests: systemd, reboots, CUTS=60 power cuts
	EVENKEEL_VM_CUTS=$(CUTS) $(CARGO) test --locked --package evenkeel-tests --test vm -- --nocapture --include-ignored

CASES ?= 100000

fuzz: deps ## Read CASES (100000) archives and manifests of chance for each property
	EVENKEEL_FUZZ_CASES=$(CASES) $(CARGO) test --locked --package evenkeel-host --lib fuzz
	EVENKEEL_FUZZ_CASES=$(CASES) $(CARGO) test --locked --package evenkeel-manifests --lib without_panic

SEEDS ?= 100
FROM ?= 1

damage: programs ## Damage SEEDS (100) hosts at random, from seed FROM (1)
	EVENKEEL_DAMAGE_SEEDS=$(SEEDS) EVENKEEL_DAMAGE_FROM=$(FROM) $(CARGO) test --locked --package evenkeel-tests --test e2e random_damage

lint: deps ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

demo: programs ## Show it: a page from a container, a drift found and repaired; touches nothing of the host
	@examples/quickstart/demo.sh target/debug/evenkeel

bench: build ## Print ratios beside its peers
	@$(MAKE) --no-print-directory deps PACKAGES="$(PEERS)"
	$(CARGO) bench --package evenkeel-tests --bench peers
	tests/bench/shim-memory.sh 20

deny: ## Check licences and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny check

clean: ## Remove what was built
	$(CARGO) clean
