#!/usr/bin/env bash
# Makes .venv from the locked requirements, and sees to the system packages that a target needs.
#
#   scripts/setup.sh runtime   what `make demo` needs
#   scripts/setup.sh dev       what `make test` and `make check` need
#   scripts/setup.sh all       what `make test-all` needs, too
#   scripts/setup.sh GROUP     what `make test-GROUP` needs: container, machine, terraform, tailnet
#
# As root, missing system packages are installed by apt; otherwise they are named. Quiet unless something fails.
set -Eeuo pipefail

# command:package of Debian and Ubuntu; a command that is there needs no package
RUNTIME=(ssh:openssh-client sshd:openssh-server openssl:openssl setpriv:util-linux)
TESTS=(faketime:faketime gpg:gnupg curl:curl ip:iproute2 nft:nftables)
NETWORK=(ip:iproute2 iptables:iptables etcd:etcd-server)
CONTAINER=(docker:docker.io dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap ip:iproute2)
MACHINE=(qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils genisoimage:genisoimage mmdebstrap:mmdebstrap etcd:etcd-server)
TAILNET=(ip:iproute2 iptables:iptables)

main() {
    local level=${1:?runtime, dev, all or a group of tests}
    cd "$(dirname "$0")/.."
    # One at a time: several targets may ask at once (make -j).
    mkdir -p .build
    exec 9>.build/setup.lock
    flock 9
    packages "$level"
    environment
    case $level in
    runtime) sync requirements/runtime.lock ;;
    terraform | all)
        sync requirements/runtime.lock requirements/dev.lock requirements/terraform.lock
        scanner
        ;;
    *) sync requirements/runtime.lock requirements/dev.lock ;;
    esac
}

packages() {
    local wanted=("${RUNTIME[@]}") missing=() each
    [[ $1 == runtime ]] || wanted+=("${TESTS[@]}")
    case $1 in
    container) wanted+=("${CONTAINER[@]}") ;;
    machine) wanted+=("${MACHINE[@]}") ;;
    tailnet) wanted+=("${TAILNET[@]}") ;;
    all) wanted+=("${NETWORK[@]}" "${CONTAINER[@]}" "${TAILNET[@]}") ;;
    esac
    for each in "${wanted[@]}"; do
        has "${each%%:*}" || missing+=("${each##*:}")
    done
    # ensurepip is what python3 lacks where python3-venv is a package of its own
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    ((${#missing[@]})) || return 0
    install_packages "${missing[@]}"
}

has() {
    command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]
}

install_packages() {
    if ((EUID != 0)); then
        echo "These packages are missing; install them and try again: sudo apt-get install $*" >&2
        exit 1
    fi
    echo "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update
    # policy-rc.d keeps a new sshd from being started: only its program is wanted
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=yes
    fi
    local code=0
    quietly apt-get install -y --no-install-recommends "$@" || code=$?
    [[ -z $made ]] || rm -f "$policy"
    return "$code"
}

environment() {
    [[ -x .venv/bin/python ]] || quietly python3 -m venv .venv
    if [[ ! -x .venv/bin/uv || requirements/uv.lock -nt .venv/bin/uv ]]; then
        quietly .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/uv.lock
        touch .venv/bin/uv
    fi
}

sync() {
    local files=() each
    for each in "$@"; do files+=(-r "$each"); done
    quietly .venv/bin/uv pip install --python .venv/bin/python --compile-bytecode --require-hashes "${files[@]}"
    # The console script, pointing at this tree.
    cat >.venv/bin/beta9-worker <<SCRIPT
#!$PWD/.venv/bin/python
import sys
sys.path.insert(0, "$PWD")
from agent.cli import main
sys.exit(main())
SCRIPT
    chmod +x .venv/bin/beta9-worker
}

# checkov's pins do not go together with ours.
scanner() {
    local place=.build/checkov
    [[ ! $place/lock -nt requirements/checkov.lock ]] || return 0
    quietly .venv/bin/uv venv --clear --python .venv/bin/python "$place"
    quietly .venv/bin/uv pip install --python "$place/bin/python" --require-hashes -r requirements/checkov.lock
    touch "$place/lock"
}

quietly() {
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output" >&2
        echo "failed: $*" >&2
        return 1
    fi
}

main "$@"
