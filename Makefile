# `make run` serves on 127.0.0.1:3000, `make test` checks the API, `make checks` all the rest, `make drill` breaks two regions of databases,
# `make rollout` a cluster; all install what they need but rustup, Terraform, kubectl and Go. A second time they find it there.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Also where MAKEFLAGS has -j: packages come before what is built with them, and two installations would be in each other's way.
.NOTPARALLEL:
.PHONY: help run test checks drill rollout lab cluster bench component reproducible overlays supply-chain fuzz clean

TARGET := wasm32-wasip2
LISTEN := 127.0.0.1:3000
# Where the private PostgreSQL of `make run` keeps its data; .dob where it is empty.
DATA :=

# No path of the machine gets into the component, so that every build of a commit gives the same bytes.
# Where Cargo keeps packages may have a space in its name: RUSTFLAGS is cut there, this is not. Cargo needs no HOME either.
HOME_OF_USER := $${HOME:-$$(getent passwd "$$(id -u)" | cut -d : -f 6)}
COMPONENT := CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$(HOME_OF_USER)/.cargo}=cargo" cargo
# The component is where spin.toml says, wherever CARGO_TARGET_DIR has the rest.
COMPONENT_OPTIONS := --profile component --target $(TARGET) --target-dir target
# The builds for WASI 0.2 and 0.3. Each has a Cargo of its own: built together, they would share the features of what both use.
BUILDS := wasi-p2 wasi-p3
# The build that serves: make run WASI=0.3; that for 0.2 where it is empty.
WASI ?=
# A program that is started as `spin up` is, in place of the imitation of Spin: make test SPIN=/path/to/spin.
SPIN ?=
export WASI SPIN
WASMS := $(BUILDS:wasi-%=target/$(TARGET)/component/dob_api_wasi_%.wasm)
# Clippy is the compiler of the native crates where their code is checked: one build lints and runs. The component has rustc's own.
CHECKED := RUSTC_WORKSPACE_WRAPPER=clippy-driver
# All that is tested but the cluster's shim: what that is made of is built by nothing else.
TESTED := --lib --bin dob-host --test api
HOST := cargo run --quiet --bin dob-host --
# The same without lab and cluster: the first build takes less.
SERVE := cargo run --quiet --bin dob-run --
FUZZ := fuzz/Cargo.toml

MODULES := terraform/modules
ROOTS := terraform/global terraform/primary terraform/recovery
# A check alone: make checks ONLY=terraform. Workflows are part of `make test`; the collector takes Go, and three minutes to build.
CHECKS := emulator terraform k8s operations observability documents
ONLY := $(CHECKS)
# Set up once: the programs in Python, and the provider of Terraform for all folders.
PYTHON := .venv/installed
PROVIDERS := .terraform-providers/filled
# Network namespaces, small disks and other users' files take root; everybody else runs all the rest.
ROOT_ONLY := $(if $(filter 0,$(shell id -u)),,--skip packets:: --skip a_full_disk --skip another_user)
# What no real Spin can do: play a fault, set the component's clock, or have its log before the answer.
IMITATED := host:: calendar:: a_saved_date_comes_back a_date_of_today a_saved_date_is_greeted a_username_is_one_identity healthz \
	the_service_does_what_the_description_says a_one_letter_password fault_of_spin_4_0_2 a_request_opens_one_connection three_restarts
LEFT_OUT := $(ROOT_ONLY) $(if $(SPIN),$(IMITATED:%=--skip %))
# The database of advisories is on GitHub: its CI asks it, a machine without the Internet can't.
DENY := bans licenses sources $(if $(CI),advisories)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Only the build that serves.
run: BUILDS := $(if $(filter 0.3,$(WASI)),wasi-p3,wasi-p2)
run: packages-run component ## Serve on 127.0.0.1:3000 with a private PostgreSQL, or with the one in DATABASE_URL
	@$(SERVE) run --listen $(LISTEN) $(if $(DATA),--data "$(DATA)")

test: packages-test $(PYTHON) check-format component check-workflows ## Check the API (contract, calendar, faults, on a real PostgreSQL) and the GitHub workflows
	$(COMPONENT) clippy --quiet $(COMPONENT_OPTIONS) $(addprefix --package ,$(foreach build,$(BUILDS:wasi-%=%),dob-api-wasi-$(build) constant-$(build) one-query-$(build)))
	$(CHECKED) cargo test --quiet --no-run $(TESTED) --test faults
	$(CHECKED) cargo test --lib --bin dob-host
	$(foreach wasi,$(or $(WASI),0.2 0.3),WASI=$(wasi) $(CHECKED) cargo test --test api -- $(LEFT_OUT) &&) true
	$(if $(SPIN),@echo "On a real Spin these tests are left out: $(IMITATED)")
	$(if $(ROOT_ONLY),@echo "Not root: the tests that drop packets and fill a disk and use the files of another user are left out.")
	$(foreach wasi,$(or $(WASI),0.2 0.3),WASI=$(wasi) $(CHECKED) cargo test --test faults -- --test-threads=1 $(LEFT_OUT) &&) true

checks: packages-checks $(PYTHON) $(if $(filter emulator terraform,$(ONLY)),$(PROVIDERS)) ## Check all the rest: infrastructure, manifests, operations, alerts, documents; one: make checks ONLY=k8s
	$(if $(filter-out $(CHECKS) workflows collector,$(ONLY)),$(error There is no check '$(ONLY)': name some of $(CHECKS) workflows collector))
	@scripts/parts $(addprefix check-,$(ONLY))

drill: packages-lab $(PYTHON) terraform-is-there component ## Break the nodes of two regions under load and measure; one drill: make drill D=leader-crash, all: D=all (root)
	$(CHECKED) $(HOST) drill $(D)

rollout: packages-cluster go-is-there component ## Roll three versions out on the cluster under load, break a node, and measure; one drill: make rollout D=digest-missing, at full size: D='all --full-size' (root)
	$(CHECKED) cargo build --quiet --bins && $(CHECKED) $(HOST) rollout $(D)

lab: packages-lab $(PYTHON) terraform-is-there component ## Boot the database nodes of a region on this machine and serve on them (root)
	@$(HOST) lab

cluster: packages-cluster go-is-there component ## Run SpinKube on this machine: three nodes, the operator, the component behind a load balancer (root)
	@$(CHECKED) cargo build --quiet --bins && $(CHECKED) $(HOST) cluster

bench: packages-run component ## Measure, and print the tables of docs/benchmarks.md
	cargo run --quiet --release --bin dob-bench -- report

# It needs nothing but rustup.
component: ## Build the component, for WASI 0.2 and 0.3
	@command -v rustup >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs."; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	$(foreach build,$(BUILDS),$(COMPONENT) build $(COMPONENT_OPTIONS) --package dob-api-$(build) &&) true

reproducible: component ## Build the component of the last commit twice, elsewhere, and compare the bytes with this build
	@built=$$(sha256sum $(WASMS)) && again=$$(scripts/reproduce) && \
		if [ "$$built" = "$$again" ]; then echo "$$built"; else printf 'These builds are not those of the last commit: is all committed?\n%s\n%s\n' "$$built" "$$again"; exit 1; fi

# What a build is made of, as CycloneDX: the release adds it.
target/sbom-%.cdx.json: Cargo.toml Cargo.lock
	@command -v cargo-sbom >/dev/null || cargo install --quiet --locked cargo-sbom@0.10.0
	@mkdir -p $(@D)
	cargo sbom --cargo-package dob-api-$* --output-format cyclone_dx_json_1_6 >$@

overlays: O := $(notdir $(wildcard k8s/overlays/*))
overlays: $(PYTHON) kubectl-is-there ## Refuse Kubernetes overlays that can't work; one overlay: make overlays O=primary
	.venv/bin/python k8s/checks/check.py $(O)

supply-chain: ## Check lock files, licences, duplicates and sources of dependencies, and look for secrets in tree and history
	@command -v cargo-deny >/dev/null || cargo install --quiet --locked cargo-deny@0.20.2
	$(foreach manifest,Cargo.toml $(FUZZ),cargo metadata --quiet --locked --format-version 1 --manifest-path $(manifest) >/dev/null && \
		cargo deny --manifest-path $(manifest) --workspace --locked check \
		--allow unmatched-skip --allow license-exception-not-encountered --allow license-not-encountered $(DENY) &&) true
	scripts/scan-secrets

fuzz: packages-run ## Fuzz path and body parsing for a minute (needs a nightly toolchain)
	@scripts/install-packages g++
	@rustup toolchain list | grep -q ^nightly || { echo "Fuzzing needs nightly: rustup toolchain install nightly"; exit 1; }
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz@0.13.2
	mkdir -p fuzz/corpus/request
	cargo +nightly fuzz run request fuzz/corpus/request fuzz/seeds/request -- -max_total_time=60

clean: ## Remove what was built; the data of `make run` in .dob stays
	cargo clean
	rm -rf .venv .terraform-providers

# The parts of `make checks` and `make test`, which call them when what they need is there.
.PHONY: $(CHECKS:%=check-%) check-format check-workflows check-collector
check-%: export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Providers come from Terraform's registry, or from a mirror of it below /opt where a machine has one.
MIRROR := $(patsubst %/,%,$(dir $(firstword $(wildcard /opt/*/registry.terraform.io))))
$(PROVIDERS) check-terraform check-emulator: export TF_CLI_CONFIG_FILE := $(if $(MIRROR),$(CURDIR)/.terraform-providers/terraformrc,$(TF_CLI_CONFIG_FILE))
# One copy of the provider for all folders; there is no lock file that it could break.
$(PROVIDERS) check-terraform check-emulator: export TF_PLUGIN_CACHE_DIR := $(CURDIR)/.terraform-providers
$(PROVIDERS) check-terraform check-emulator: export TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE := 1

$(PROVIDERS): $(MODULES)/key/versions.tf | terraform-is-there
	@mkdir -p $(@D)
	$(if $(MIRROR),@echo 'provider_installation { filesystem_mirror { path = "$(MIRROR)" } }' >$(@D)/terraformrc)
	@terraform -chdir=$(MODULES)/key init -backend=false -input=false >/dev/null && touch $@

check-terraform:
	terraform fmt -check -recursive terraform host-tests/lab
	$(foreach folder,$(wildcard $(MODULES)/*) $(ROOTS),terraform -chdir=$(folder) init -backend=false -input=false >/dev/null && terraform -chdir=$(folder) test &&) true
	$(foreach root,$(ROOTS),terraform -chdir=$(root) validate &&) true
	checkov --directory terraform --framework terraform --quiet --compact --skip-download --skip-path terraform/tests

# Plans and applies both regions and the global root.
check-emulator:
	python terraform/tests/emulator.py

check-k8s: kubectl-is-there overlays
	pytest --quiet --numprocesses 2 -p no:cacheprovider k8s/checks

# The scripts that the workflows call, against an emulator of AWS.
check-operations:
	pytest --quiet --numprocesses 2 -p no:cacheprovider .github/checks/test_scripts.py

check-observability:
	observability/check
	@echo "The collector was not run: make checks ONLY=collector builds it, and counts requests with it."

# The collector and Prometheus run with the configuration, and are given spans.
check-collector: go-is-there target/otel-collector
	@command -v prometheus >/dev/null || scripts/install-packages prometheus
	pytest --quiet -p no:cacheprovider observability/tests

target/otel-collector: scripts/build-collector $(wildcard host-tests/cluster/parts/otel-collector/*)
	@mkdir -p $(@D)
	scripts/build-collector $@

check-documents:
	docs/check

check-format:
	cargo fmt --all --check
	cargo fmt --check --manifest-path $(FUZZ)

check-workflows: packages-test $(PYTHON)
	shellcheck $(filter-out %/edit-yaml,$(wildcard scripts/*)) .ci/run $(MODULES)/database-node/files/sbin/* $(MODULES)/database/ec2.sh $(MODULES)/eks/files/install-shim k8s/controllers/definitions
	actionlint
	check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	check-jsonschema --builtin-schema vendor.renovate .github/renovate.json
	check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	zizmor --offline --no-progress --quiet .github
	pytest --quiet -p no:cacheprovider .github/checks --ignore .github/checks/test_scripts.py

# One environment for all programs in Python. requirements.in says what they are for.
$(PYTHON): requirements.txt
	@scripts/install-packages python3 python3-venv
	@# Not into the user's own packages, as pip's configuration may have it.
	@python3 -m venv --clear .venv && PIP_USER=0 .venv/bin/pip install --quiet "$$(grep ^uv== $<)"
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --requirement $< && touch $@

# What the machine needs. This takes no time where it is there.
.PHONY: packages-run packages-test packages-checks packages-lab packages-shim packages-cluster terraform-is-there kubectl-is-there go-is-there
packages-run:
	@scripts/install-packages gcc libc6-dev libssl-dev pkg-config postgresql

packages-test: packages-run
	@scripts/install-packages curl git haproxy iproute2 jq nftables openssl shellcheck

packages-checks:
	@scripts/install-packages jq openssl
	@command -v promtool >/dev/null || scripts/install-packages prometheus
	@# Debian 13 has it in a package of its own.
	@command -v promtool >/dev/null || scripts/install-packages promtool
	@command -v amtool >/dev/null || scripts/install-packages prometheus-alertmanager

packages-shim: packages-run
	@scripts/install-packages libseccomp-dev protobuf-compiler

packages-lab: packages-run
	@command -v prometheus >/dev/null || scripts/install-packages prometheus
	@scripts/install-packages curl debootstrap e2fsprogs haproxy iproute2 mount nftables openssl procps systemd-container util-linux

packages-cluster: packages-run packages-shim
	@scripts/install-packages busybox-static containernetworking-plugins etcd-server haproxy ipset iproute2 iptables nftables procps tini util-linux
	@# Docker's own packages have it, and apt would remove them for Debian's.
	@command -v runc >/dev/null || scripts/install-packages runc

terraform-is-there:
	@command -v terraform >/dev/null || { echo "Terraform 1.11 is missing: https://developer.hashicorp.com/terraform/install"; exit 1; }

kubectl-is-there:
	@command -v kubectl >/dev/null || { echo "kubectl is missing: https://kubernetes.io/docs/tasks/tools/#kubectl"; exit 1; }

# The version that the go.mod files below host-tests/cluster/parts ask for.
go-is-there:
	@go version 2>/dev/null | grep -qE "go1\.(2[6-9]|[3-9][0-9])" || { echo "Go 1.26 is missing: https://go.dev/doc/install"; exit 1; }
