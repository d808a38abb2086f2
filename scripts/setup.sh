#!/usr/bin/env bash
# Creates .venv from the locked requirements, and installs the system packages that a target needs.
#
#   scripts/setup.sh runtime   what `make demo` needs
#   scripts/setup.sh dev       what `make test` and `make check` need
#   scripts/setup.sh all       what `make test-all` needs
#   scripts/setup.sh GROUP     what `make test-GROUP` needs: container, machine, terraform, tailnet
#
# As root, missing system packages are installed with apt; otherwise they are listed. Quiet unless something fails.
set -Eeuo pipefail

# command:package, for Debian and Ubuntu; a package is needed only if its command is missing
RUNTIME=(ssh:openssh-client sshd:openssh-server openssl:openssl setpriv:util-linux)
TESTS=(faketime:faketime gpg:gnupg curl:curl ip:iproute2 nft:nftables zsh:zsh mandoc:mandoc)
NETWORK=(ip:iproute2 iptables:iptables etcd:etcd-server)
CONTAINER=(docker:docker.io dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap ip:iproute2)
MACHINE=(qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils genisoimage:genisoimage mmdebstrap:mmdebstrap etcd:etcd-server)
TAILNET=(ip:iproute2 iptables:iptables)

main() {
    local level=${1:?runtime, dev, all or a test group}
    cd "$(dirname "$0")/.."
    # Take a lock: with make -j, several targets may run this at once.
    mkdir -p .build
    exec 9>.build/setup.lock
    flock 9
    packages "$level"
    environment
    case $level in
    runtime) sync requirements/runtime.lock ;;
    terraform | all)
        sync requirements/runtime.lock requirements/dev.lock requirements/terraform.lock
        install_checkov
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
    # without the package python3-venv, Debian's python3 lacks ensurepip
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    ((${#missing[@]})) || return 0
    install_packages "${missing[@]}"
}

has() {
    command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]
}

install_packages() {
    if ((EUID != 0)); then
        echo "Missing packages; install them and try again: sudo apt-get install $*" >&2
        exit 1
    fi
    echo "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update
    # policy-rc.d keeps apt from starting services such as sshd: only the programs are needed
    local policy=/usr/sbin/policy-rc.d created=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        created=yes
    fi
    local code=0
    quietly apt-get install -y --no-install-recommends "$@" || code=$?
    [[ -z $created ]] || rm -f "$policy"
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
    # A console script that runs this tree's code.
    cat >.venv/bin/beta9-worker <<SCRIPT
#!$PWD/.venv/bin/python
import sys
sys.path.insert(0, "$PWD")
from agent.cli import main
sys.exit(main())
SCRIPT
    chmod +x .venv/bin/beta9-worker
}

# checkov has its own environment, because its pins conflict with the others.
install_checkov() {
    local directory=.build/checkov
    [[ ! $directory/lock -nt requirements/checkov.lock ]] || return 0
    quietly .venv/bin/uv venv --clear --python .venv/bin/python "$directory"
    quietly .venv/bin/uv pip install --python "$directory/bin/python" --require-hashes -r requirements/checkov.lock
    touch "$directory/lock"
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
