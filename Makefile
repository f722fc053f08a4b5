# `make help` lists the targets. They install what they need, except for rustup, Terraform, kubectl and Go.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Even with -j in MAKEFLAGS: packages are installed before they are used, and two installations at once would block each other.
.NOTPARALLEL:
.PHONY: help run test checks drill rollout lab cluster bench component reproducible overlays supply-chain fuzz clean

TARGET := wasm32-wasip2
LISTEN := 127.0.0.1:3000
# Where the private PostgreSQL of `make run` keeps its data. The default is .dob.
DATA :=

# Keeps paths of the machine out of the component, so that every build of a commit gives the same bytes. CARGO_ENCODED_RUSTFLAGS, unlike
# RUSTFLAGS, allows spaces in Cargo's home. HOME may be unset, because Cargo does not need it.
HOME_OF_USER := $${HOME:-$$(getent passwd "$$(id -u)" | cut -d : -f 6)}
COMPONENT := CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$(HOME_OF_USER)/.cargo}=cargo" cargo
# spin.toml names the path of the component, so it is built there even if CARGO_TARGET_DIR is set.
COMPONENT_OPTIONS := --profile component --target $(TARGET) --target-dir target
# The builds for WASI 0.2 and 0.3. Each has its own call of Cargo, which would otherwise unify the features of their dependencies.
BUILDS := wasi-p2 wasi-p3
# The build that serves, 0.2 by default: make run WASI=0.3.
WASI ?=
# A real Spin in place of the imitation: make test SPIN=/path/to/spin.
SPIN ?=
export WASI SPIN
WASMS := $(BUILDS:wasi-%=target/$(TARGET)/component/dob_api_wasi_%.wasm)
# Compiles native crates with Clippy, so that one build both lints and runs. The component is compiled with rustc.
CHECKED := RUSTC_WORKSPACE_WRAPPER=clippy-driver
# What `make test` builds. The cluster's shim is left out, because nothing else uses its dependencies.
TESTED := --lib --bin dob-host --bin dob-under-load --test api
HOST := cargo run --quiet --bin dob-host --
# The same without lab and cluster, so that the first build is faster.
SERVE := cargo run --quiet --bin dob-run --
FUZZ := fuzz/Cargo.toml

MODULES := terraform/modules
ROOTS := terraform/global terraform/primary terraform/recovery
# A single check: make checks ONLY=terraform. Workflows are part of `make test`. The collector needs Go, and three minutes to build.
CHECKS := emulator terraform k8s operations observability documents
ONLY := $(CHECKS)
# Set up once: the Python programs, and Terraform's provider for all folders.
PYTHON := .venv/installed
# The longest test takes two minutes on a busy machine. Without a limit, one whose script waits for ever would end nothing, and say nothing.
PYTEST := pytest --quiet -p no:cacheprovider --timeout 600
PROVIDERS := .terraform-providers/filled
# Tests that need root, for network namespaces, small disks and files of other users. They are skipped for other users.
ROOT_ONLY := $(if $(filter 0,$(shell id -u)),,--skip packets:: --skip a_full_disk --skip another_user)
# Tests that need the imitation: they inject a fault into the host, set the component's clock, or read its log before the answer.
IMITATED := imitation:: calendar:: a_saved_date_comes_back a_date_of_today a_saved_date_is_greeted a_username_is_one_identity healthz \
	the_service_does_what_the_description_says a_one_letter_password fault_of_spin_4_0_2 a_request_opens_one_connection three_restarts
LEFT_OUT := $(ROOT_ONLY) $(if $(SPIN),$(IMITATED:%=--skip %))
# Only CI checks advisories, because their database is on GitHub, which a machine without the Internet can't reach.
DENY := bans licenses sources $(if $(CI),advisories)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Only the build that serves.
run: BUILDS := $(if $(filter 0.3,$(WASI)),wasi-p3,wasi-p2)
run: packages-run component ## Serve on 127.0.0.1:3000 with a private PostgreSQL, or with the one in DATABASE_URL
	@$(SERVE) run --listen $(LISTEN) $(if $(DATA),--data "$(DATA)")

test: packages-test $(PYTHON) check-format component check-workflows ## Check the API on a real PostgreSQL, and the GitHub workflows
	$(COMPONENT) clippy --quiet $(COMPONENT_OPTIONS) $(addprefix --package ,$(foreach build,$(BUILDS:wasi-%=%),dob-api-wasi-$(build) constant-$(build) one-query-$(build)))
	$(CHECKED) cargo test --quiet --no-run $(TESTED) --test faults
	$(CHECKED) cargo test --lib --bin dob-host --bin dob-under-load
	$(foreach wasi,$(or $(WASI),0.2 0.3),WASI=$(wasi) $(CHECKED) cargo test --test api -- $(LEFT_OUT) &&) true
	@# A comma in these sentences would end them.
	$(if $(SPIN),@echo "On a real Spin these tests are skipped: $(IMITATED)")
	$(if $(ROOT_ONLY),@echo "Without root these tests are skipped: those that drop packets or fill a disk or use another user's files.")
	$(foreach wasi,$(or $(WASI),0.2 0.3),WASI=$(wasi) $(CHECKED) cargo test --test faults -- --test-threads=1 $(LEFT_OUT) &&) true

checks: packages-checks $(PYTHON) $(if $(filter emulator terraform,$(ONLY)),$(PROVIDERS)) ## Check infrastructure, manifests, alerts, operations, documents; one of them: ONLY=k8s
	$(if $(filter-out $(CHECKS) workflows collector,$(ONLY)),$(error There is no check '$(ONLY)': name one or more of $(CHECKS) workflows collector))
	@scripts/parts $(addprefix check-,$(ONLY))

drill: packages-lab $(PYTHON) terraform-is-there component ## Break database nodes under load, and measure; one drill: D=leader-crash, all: D=all (root)
	$(CHECKED) $(HOST) drill $(D)

rollout: packages-cluster $(if $(filter all leader-lost-behind-pods,$(D)),packages-lab terraform-is-there) $(PYTHON) go-is-there component ## Roll versions out under load, break Kubernetes nodes; all: D=all or D='all --full-size' (root)
	$(CHECKED) cargo build --quiet --bins && $(CHECKED) $(HOST) rollout $(D)

lab: packages-lab $(PYTHON) terraform-is-there component ## Boot the database nodes of a region on this machine, and serve from them; of two: BOTH=1 (root)
	@$(HOST) lab $(if $(BOTH),--both)

cluster: packages-cluster $(PYTHON) go-is-there component ## Run SpinKube on this machine: three nodes, and the API behind a load balancer (root)
	@$(CHECKED) cargo build --quiet --bins && $(CHECKED) $(HOST) cluster

bench: packages-run component ## Measure, and print the tables of docs/benchmarks.md
	cargo run --quiet --release --bin dob-bench -- report

# It needs only rustup.
component: ## Build the component, for WASI 0.2 and 0.3
	@command -v rustup >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs."; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	$(foreach build,$(BUILDS),$(COMPONENT) build $(COMPONENT_OPTIONS) --package dob-api-$(build) &&) true

reproducible: component ## Build the last commit twice, in other folders, and compare the bytes with this build
	@built=$$(sha256sum $(WASMS)) && again=$$(scripts/reproduce) && \
		if [ "$$built" = "$$again" ]; then echo "$$built"; else printf 'The builds differ. Commit your changes first; if they still differ, the build depends on this machine:\n%s\n%s\n' "$$built" "$$again"; exit 1; fi

# The bill of materials of a build, in CycloneDX's format. The release contains it.
target/sbom-%.cdx.json: Cargo.toml Cargo.lock
	@command -v cargo-sbom >/dev/null || cargo install --quiet --locked cargo-sbom@0.10.0
	@mkdir -p $(@D)
	cargo sbom --cargo-package dob-api-$* --output-format cyclone_dx_json_1_6 >$@

overlays: O := $(notdir $(wildcard k8s/overlays/*))
overlays: $(PYTHON) kubectl-is-there ## Render and check the Kubernetes overlays; one of them: O=primary
	.venv/bin/python k8s/checks/check.py $(O)

supply-chain: ## Check the dependencies' lock files, licences and sources, and search the history for secrets
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

clean: ## Remove what was built; the data of `make run` in .dob is kept
	cargo clean
	rm -rf .venv .terraform-providers

# The parts of `make checks` and `make test`, which first install what they need.
.PHONY: $(CHECKS:%=check-%) check-format check-workflows check-collector
check-%: export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Providers come from Terraform's registry, or from a mirror of it below /opt if there is one.
MIRROR := $(patsubst %/,%,$(dir $(firstword $(wildcard /opt/*/registry.terraform.io))))
$(PROVIDERS) check-terraform check-emulator: export TF_CLI_CONFIG_FILE := $(if $(MIRROR),$(CURDIR)/.terraform-providers/terraformrc,$(TF_CLI_CONFIG_FILE))
# One copy of the provider for all folders. It can't break a lock file, because there is none.
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
	$(PYTEST) --numprocesses 2 k8s/checks

# The scripts that the workflows call, against an emulator of AWS.
check-operations:
	$(PYTEST) --numprocesses 2 .github/checks/test_scripts.py

check-observability:
	observability/check
	@echo "The collector was not tested: make checks ONLY=collector builds it, and counts requests with it."

# Runs the collector and Prometheus with the configuration, and sends them spans.
check-collector: go-is-there packages-prometheus target/otel-collector
	$(PYTEST) observability/tests

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
	$(PYTEST) .github/checks --ignore .github/checks/test_scripts.py

# One environment for all Python programs. requirements.in says what each is for.
$(PYTHON): requirements.txt
	@scripts/install-packages python3 python3-venv
	@# PIP_USER=0, because pip's configuration may say to install into the user's own packages.
	@python3 -m venv --clear .venv && PIP_USER=0 .venv/bin/pip install --quiet "$$(grep ^uv== $<)"
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --requirement $< && touch $@

# Packages of the machine. If all are installed, this takes no time.
.PHONY: packages-run packages-test packages-prometheus packages-checks packages-lab packages-shim packages-cluster terraform-is-there kubectl-is-there go-is-there
packages-run:
	@scripts/install-packages gcc libc6-dev libssl-dev pkg-config postgresql

packages-test: packages-run
	@scripts/install-packages curl git haproxy iproute2 jq nftables openssl shellcheck

packages-prometheus:
	@command -v prometheus >/dev/null || scripts/install-packages prometheus
	@# In Debian 13, promtool is a package of its own.
	@command -v promtool >/dev/null || scripts/install-packages promtool

packages-checks: packages-prometheus
	@scripts/install-packages jq openssl
	@command -v amtool >/dev/null || scripts/install-packages prometheus-alertmanager

packages-shim: packages-run
	@scripts/install-packages libseccomp-dev protobuf-compiler

packages-lab: packages-run packages-prometheus
	@scripts/install-packages curl debootstrap e2fsprogs haproxy iproute2 mount nftables openssl procps systemd-container util-linux

packages-cluster: packages-run packages-shim packages-prometheus
	@scripts/install-packages busybox-static containernetworking-plugins etcd-server haproxy ipset iproute2 iptables nftables procps tini util-linux
	@# Docker's own packages include runc, and apt would remove them to install Debian's.
	@command -v runc >/dev/null || scripts/install-packages runc

terraform-is-there:
	@command -v terraform >/dev/null || { echo "Terraform 1.11 is missing: https://developer.hashicorp.com/terraform/install"; exit 1; }

kubectl-is-there:
	@command -v kubectl >/dev/null || { echo "kubectl is missing: https://kubernetes.io/docs/tasks/tools/#kubectl"; exit 1; }

# The version that the go.mod files below host-tests/cluster/parts ask for.
go-is-there:
	@go version 2>/dev/null | grep -qE "go1\.(2[6-9]|[3-9][0-9])" || { echo "Go 1.26 is missing: https://go.dev/doc/install"; exit 1; }
