# `make run` serves on 127.0.0.1:3000, `make test` checks everything, `make drill` breaks two regions; all install what they need.

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-terraform setup-lab setup-workflows component reproducible sbom run test workflows supply-chain lab drill bench fuzz clean

TARGET := wasm32-wasip2
# A build of the component alone: together with the rlib, cargo would leave link-time optimization out. No path of the machine
# gets into it, so that every build of a commit gives the same bytes.
COMPONENT := RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" cargo rustc --release --lib --crate-type cdylib --target $(TARGET)
LISTEN := 127.0.0.1:3000
MODULES := terraform/modules
HOST := --manifest-path host-tests/Cargo.toml
WORKSPACES := $(dir $(shell git ls-files '*Cargo.lock'))
# The database of advisories is on GitHub: its CI asks it, a machine without the Internet can't.
DENY := bans licenses sources $(if $(CI),advisories)
# Network namespaces and small disks take root; everybody else runs all the rest.
ROOT_ONLY := $(if $(filter 0,$(shell id -u)),,--skip packets:: --skip a_full_disk)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what running needs: a C compiler, OpenSSL, PostgreSQL
	@scripts/install-packages gcc libc6-dev libssl-dev pkg-config postgresql

setup-test: setup ## Install what the tests need besides: network tools, schemathesis
	@scripts/install-packages iproute2 nftables openssl python3 python3-venv shellcheck
	@cmp -s host-tests/requirements.txt .venv/requirements.txt || { \
		python3 -m venv --clear .venv && \
		.venv/bin/pip install --quiet --requirement host-tests/requirements.txt && \
		cp host-tests/requirements.txt .venv/requirements.txt; }

setup-terraform:
	@command -v terraform >/dev/null || { echo "Terraform 1.11 is missing: https://developer.hashicorp.com/terraform/install"; exit 1; }

setup-lab: setup setup-terraform ## Install what the lab needs: Debian's bootstrap, containers, the emulator of AWS
	@scripts/install-packages curl debootstrap e2fsprogs haproxy iproute2 mount nftables openssl procps python3 python3-venv systemd-container util-linux
	@cmp -s host-tests/lab/requirements.txt .venv-lab/requirements.txt || { \
		python3 -m venv --clear .venv-lab && \
		.venv-lab/bin/pip install --quiet --requirement host-tests/lab/requirements.txt && \
		cp host-tests/lab/requirements.txt .venv-lab/; }

setup-workflows:
	@scripts/install-packages curl git jq openssl python3 python3-venv shellcheck
	@cmp -s .github/checks/requirements.txt .venv-workflows/requirements.txt || { \
		python3 -m venv --clear .venv-workflows && \
		.venv-workflows/bin/pip install --quiet --requirement .github/checks/requirements.txt && \
		cp .github/checks/requirements.txt .venv-workflows/; }

# Also the build command in spin.toml: it must need nothing but rustup.
component: ## Build the component
	@command -v rustup >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs."; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	$(COMPONENT)

reproducible: component ## Build the component of the last commit twice, elsewhere, and compare the bytes with this build
	@built=$$(sha256sum <target/$(TARGET)/release/dob_api.wasm | cut -d ' ' -f 1) && again=$$(scripts/reproduce) && \
		if [ "$$built" = "$$again" ]; then echo "sha256:$$built"; else echo "This build ($$built) is not that of the last commit ($$again): is all committed?"; exit 1; fi

sbom: setup-workflows ## List what the component is made of, as CycloneDX in target/sbom.cdx.json
	@mkdir -p target
	.venv-workflows/bin/syft scan file:Cargo.lock --quiet --output cyclonedx-json=target/sbom.cdx.json

run: setup component ## Serve on 127.0.0.1:3000 with a private PostgreSQL, or with the one in DATABASE_URL
	@cargo run --quiet $(HOST) -- run --listen $(LISTEN)

# Clippy is the compiler of our own crates here: one build lints and runs, and dependencies are compiled once.
test: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test: setup-test setup-terraform component ## Run every check
	shellcheck scripts/* .ci/run $(MODULES)/database-node/files/sbin/*
	terraform fmt -check -recursive terraform host-tests/lab
	$(foreach module,$(wildcard $(MODULES)/*),terraform -chdir=$(module) init -input=false >/dev/null && terraform -chdir=$(module) test &&) true
	cargo fmt --check
	cargo fmt --check $(HOST)
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --all --check --manifest-path host-tests/benches/components/Cargo.toml
	cargo test --quiet
	cargo build --quiet $(HOST) --bench compare --test drills
	cargo test $(HOST) --lib --bins --test api
	$(if $(ROOT_ONLY),@echo "Not root: the tests that drop packets and the one that fills a disk are left out.")
	cargo test $(HOST) --test faults -- --test-threads=1 $(ROOT_ONLY)

workflows: setup-workflows ## Check the GitHub workflows and the scripts they call
	shellcheck scripts/*
	.venv-workflows/bin/actionlint
	.venv-workflows/bin/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	.venv-workflows/bin/zizmor --offline --no-progress --quiet .github
	PATH=$(CURDIR)/.venv-workflows/bin:$$PATH .venv-workflows/bin/pytest --quiet -p no:cacheprovider .github/checks

supply-chain: ## Check lock files, licences, duplicates and sources of dependencies, and look for secrets in tree and history
	@command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny@0.20.2
	$(foreach workspace,$(WORKSPACES),cargo metadata --quiet --locked --format-version 1 --manifest-path $(workspace)Cargo.toml >/dev/null && \
		cargo deny --manifest-path $(workspace)Cargo.toml --locked check \
		--allow unmatched-skip --allow license-exception-not-encountered --allow license-not-encountered $(DENY) &&) true
	scripts/scan-secrets

lab: setup-lab component ## Boot the database nodes of a region on this machine and serve on them (root)
	@cargo run --quiet $(HOST) -- lab

drill: setup-lab component ## Break the nodes of two regions under load and measure; one drill: make drill D=leader-crash (root)
	cargo test $(HOST) --test drills -- $(D)

bench: setup component ## Measure, and print the README's table
	@scripts/install-packages wrk
	cargo bench $(HOST) --bench compare

fuzz: setup ## Fuzz path and body parsing for a minute (needs a nightly toolchain)
	@scripts/install-packages g++
	@rustup toolchain list | grep -q ^nightly || { echo "Fuzzing needs nightly: rustup toolchain install nightly"; exit 1; }
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/request
	cargo +nightly fuzz run request fuzz/corpus/request fuzz/seeds/request -- -max_total_time=60

clean: ## Remove what was built; the data of `make run` in .dob stays
	cargo clean
	cargo clean $(HOST)
	rm -rf .venv .venv-lab .venv-workflows
