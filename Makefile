# `make run` serves on 127.0.0.1:3000, `make test` checks everything, `make drill` breaks two regions; all install what they need.

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-terraform setup-aws setup-lab setup-observability setup-kubectl setup-overlays setup-k8s setup-workflows component \
	reproducible sbom run test checks terraform emulator overlays k8s observability workflows operations supply-chain rollout documents lab drill bench fuzz clean

TARGET := wasm32-wasip2
# No path of the machine gets into the component, so that every build of a commit gives the same bytes.
COMPONENT := RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo" cargo build --profile component --target $(TARGET) --package dob-api-wasi-p2
LISTEN := 127.0.0.1:3000
MODULES := terraform/modules
ROOTS := terraform/global terraform/primary terraform/recovery
HOST := --manifest-path host-tests/Cargo.toml
WORKSPACES := $(dir $(shell git ls-files '*Cargo.lock'))
# The database of advisories is on GitHub: its CI asks it, a machine without the Internet can't.
DENY := bans licenses sources $(if $(CI),advisories)
# Network namespaces and small disks take root; everybody else runs all the rest.
ROOT_ONLY := $(if $(filter 0,$(shell id -u)),,--skip packets:: --skip a_full_disk)

# A directory of Python packages and the file that lists them; made anew where that has changed.
define venv
@cmp -s $(2) $(1)/requirements.txt || { python3 -m venv --clear $(1) && $(1)/bin/pip install --quiet --requirement $(2) && cp $(2) $(1)/; }
endef

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what running needs: a C compiler, OpenSSL, PostgreSQL
	@scripts/install-packages gcc libc6-dev libssl-dev pkg-config postgresql

setup-test: setup ## Install what the tests need besides: network tools, schemathesis
	@scripts/install-packages haproxy iproute2 nftables openssl python3 python3-venv shellcheck
	$(call venv,.venv,host-tests/requirements.txt)

setup-terraform:
	@command -v terraform >/dev/null || { echo "Terraform 1.11 is missing: https://developer.hashicorp.com/terraform/install"; exit 1; }

# Providers come from Terraform's registry, or from a mirror of it below /opt where a machine has one.
MIRROR := $(patsubst %/,%,$(dir $(firstword $(wildcard /opt/*/registry.terraform.io))))
terraform emulator: export TF_CLI_CONFIG_FILE := $(if $(MIRROR),$(CURDIR)/.terraform-providers/terraformrc,$(TF_CLI_CONFIG_FILE))
# One copy of the provider for all folders; there is no lock file that it could break.
terraform emulator: export TF_PLUGIN_CACHE_DIR := $(CURDIR)/.terraform-providers
terraform emulator: export TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE := 1
setup-aws: setup-terraform ## Install what the checks of the infrastructure need: the AWS CLI, checkov, the emulator of AWS
	@# Ubuntu 24.04 has no such package; its runners have the program.
	@command -v aws >/dev/null || scripts/install-packages awscli
	@scripts/install-packages jq openssl python3 python3-venv
	$(call venv,.venv-terraform,terraform/tests/requirements.txt)
	@mkdir -p .terraform-providers
	$(if $(MIRROR),@echo 'provider_installation { filesystem_mirror { path = "$(MIRROR)" } }' >.terraform-providers/terraformrc)

setup-lab: setup setup-terraform ## Install what the lab needs: Debian's bootstrap, containers, the emulator of AWS
	@command -v prometheus >/dev/null || scripts/install-packages prometheus
	@scripts/install-packages curl debootstrap e2fsprogs haproxy iproute2 mount nftables openssl procps python3 python3-venv systemd-container util-linux
	$(call venv,.venv-lab,host-tests/lab/requirements.txt)

setup-observability:
	@command -v promtool >/dev/null || scripts/install-packages prometheus
	@# Debian 13 has it in a package of its own.
	@command -v promtool >/dev/null || scripts/install-packages promtool
	@scripts/install-packages python3-yaml

setup-kubectl:
	@command -v kubectl >/dev/null || { echo "kubectl is missing: https://kubernetes.io/docs/tasks/tools/#kubectl"; exit 1; }

setup-overlays: setup-kubectl
	@scripts/install-packages python3 python3-venv
	$(call venv,.venv-k8s,k8s/checks/requirements.txt)

setup-k8s: setup-overlays setup-observability ## Install what the checks of the manifests need
	@command -v amtool >/dev/null || scripts/install-packages prometheus-alertmanager
	@scripts/install-packages golang-go golang-k8s-sigs-structured-merge-diff-dev shellcheck

setup-workflows:
	@scripts/install-packages curl git jq openssl python3 python3-venv shellcheck
	$(call venv,.venv-workflows,.github/checks/requirements.txt)

# Needs nothing but rustup.
component: ## Build the component
	@command -v rustup >/dev/null || { echo "Rust is missing: install it with rustup, https://rustup.rs."; exit 1; }
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	$(COMPONENT)

reproducible: component ## Build the component of the last commit twice, elsewhere, and compare the bytes with this build
	@built=$$(sha256sum <target/$(TARGET)/component/dob_api_wasi_p2.wasm | cut -d ' ' -f 1) && again=$$(scripts/reproduce) && \
		if [ "$$built" = "$$again" ]; then echo "sha256:$$built"; else echo "This build ($$built) is not that of the last commit ($$again): is all committed?"; exit 1; fi

sbom: setup-workflows ## List what the component is made of, as CycloneDX in target/sbom.cdx.json
	@mkdir -p target
	.venv-workflows/bin/syft scan file:Cargo.lock --quiet --output cyclonedx-json=target/sbom.cdx.json

run: setup component ## Serve on 127.0.0.1:3000 with a private PostgreSQL, or with the one in DATABASE_URL
	@cargo run --quiet $(HOST) -- run --listen $(LISTEN)

# Clippy is the compiler of our own crates here: one build lints and runs, and dependencies are compiled once.
test: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
test: setup-test workflows component ## Check the API (contract, calendar, faults, on a real PostgreSQL) and the GitHub workflows
	shellcheck scripts/* .ci/run $(MODULES)/database-node/files/sbin/* $(MODULES)/database/ec2.sh
	cargo fmt --all --check
	cargo fmt --check $(HOST)
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo fmt --all --check --manifest-path host-tests/benches/components/Cargo.toml
	cargo test --quiet
	cargo build --quiet $(HOST) --bench compare --test drills
	cargo test $(HOST) --lib --bins --test api
	$(if $(ROOT_ONLY),@echo "Not root: the tests that drop packets and the one that fills a disk are left out.")
	cargo test $(HOST) --test faults -- --test-threads=1 $(ROOT_ONLY)

checks: terraform emulator k8s observability operations documents rollout ## Check all the rest: infrastructure, manifests, rollouts, alerts, operations, documents

terraform: setup-aws ## Check the infrastructure code: format, tests of every module and root, policies
	terraform fmt -check -recursive terraform host-tests/lab
	$(foreach folder,$(wildcard $(MODULES)/*) $(ROOTS),terraform -chdir=$(folder) init -backend=false -input=false >/dev/null && terraform -chdir=$(folder) test &&) true
	$(foreach root,$(ROOTS),terraform -chdir=$(root) validate &&) true
	.venv-terraform/bin/checkov --directory terraform --framework terraform --quiet --compact --skip-download --skip-path terraform/tests

emulator: setup-aws ## Plan and apply both regions and the global root against an emulator of AWS (minutes)
	.venv-terraform/bin/python terraform/tests/emulator.py

observability: setup-observability ## Check alert rules, their tests, dashboards and the collector's configuration
	observability/check

overlays: O := $(notdir $(wildcard k8s/overlays/*))
overlays: setup-overlays ## Refuse Kubernetes overlays that can't work; one overlay: make overlays O=primary
	.venv-k8s/bin/python k8s/checks/check.py $(O)

k8s: setup-k8s overlays ## Check the Kubernetes overlays, and the checks themselves
	.venv-k8s/bin/python -m pytest --quiet -p no:cacheprovider k8s/checks

documents: ## Check the architecture diagram against the code and its picture, and the names in the documents
	docs/check

rollout: export RUSTC_WORKSPACE_WRAPPER := clippy-driver
rollout: setup-test setup-kubectl component ## Roll out three versions under load, one of them broken, and count failed requests
	cargo test $(HOST) --test rollout -- --test-threads=1 --nocapture

workflows: setup-workflows ## Check the GitHub workflows, and run their steps that need no AWS
	.venv-workflows/bin/actionlint
	.venv-workflows/bin/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	.venv-workflows/bin/zizmor --offline --no-progress --quiet .github
	.venv-workflows/bin/pytest --quiet -p no:cacheprovider .github/checks --ignore .github/checks/test_scripts.py

operations: setup-workflows ## Try the scripts that the workflows call, against an emulator of AWS (minutes)
	PATH=$(CURDIR)/.venv-workflows/bin:$$PATH .venv-workflows/bin/pytest --quiet -p no:cacheprovider .github/checks/test_scripts.py

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
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz@0.13.2
	mkdir -p fuzz/corpus/request
	cargo +nightly fuzz run request fuzz/corpus/request fuzz/seeds/request -- -max_total_time=60

clean: ## Remove what was built; the data of `make run` in .dob stays
	cargo clean
	cargo clean $(HOST)
	rm -rf .venv* .terraform-providers
