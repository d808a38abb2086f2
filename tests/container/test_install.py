"""`IMAGE install` on a host that is itself a container: what it copies there, starts there and reports.

The host is as real as a container can be: a process 1, a root of its own, and the real bootstrap running in its
namespaces. Two programs are stand-ins: `systemd-run` (a script that starts the unit's command with its environment file
and its log), since no systemd runs in a container here, and `docker`, which a real host would have. tests/machine/
tests the whole on a machine with systemd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.container.docker_cli import Container, Ended, attempt, docker

pytestmark = pytest.mark.container

SYSTEMD_RUN = r"""#!/bin/bash
# Stands in for systemd-run: takes the same options, and starts the command as the unit would.
set -Eeuo pipefail
declare -A property=()
while [[ $1 == --* ]]; do
    case $1 in
    --property=*) text=${1#*=}; property[${text%%=*}]=${text#*=} ;;
    --quiet | --wait | --collect | --unit=*) ;;
    *) echo "systemd-run: unrecognized option '$1'" >&2; exit 1 ;;
    esac
    shift
done
set -a; . "${property[EnvironmentFile]}"; set +a
log=${property[StandardOutput]#append:}
exec "$@" >>"$log" 2>&1
"""
DOCKER = r"""#!/bin/bash
# Stands in for the host's docker, which knows the images of its containers.
[[ $1 == inspect && $4 =~ ^[0-9a-f]{64}$ ]] && echo "sha256:$(printf %064d 7)"
"""
STEP = r"""#!/usr/bin/env bash
# A step for the test: prints the settings that it received.
# needs:
# deadline: 60
# fix: none
set -Eeuo pipefail
. "$BETA9_BOOTSTRAP/lib/step.sh"
main() { say "pool $(setting BETA9_POOL_NAME), gateway $(setting BETA9_SSH_HOST), source $(setting BETA9_SOURCE)"; }
main "$@"
"""
SETTINGS = "BETA9_POOL_NAME=gpu\nBETA9_SSH_HOST=gateway.example\n"


@dataclass(frozen=True)
class Host:
    """The container that acts as the host, and the path of its root on the machine that runs Docker."""

    container: Container
    root: str
    image: str

    def write(self, path: str, text: str, mode: str = "0755") -> None:
        command = f"mkdir -p $(dirname {path}) && cat >{path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod {mode} {path}"
        self.container.execute("bash", "-c", command)

    def install(self, *words: str, options: tuple[str, ...] = ()) -> Ended:
        """Run `docker run … IMAGE install` with only those capabilities of --privileged that it uses."""
        # Docker refuses --privileged altogether on a machine that lacks any capability.
        allowed = ["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE", "--cap-add", "SYS_CHROOT"]
        unconfined = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
        where = ["--pid", f"container:{self.container.name}", "-v", f"{self.root}:/host"]
        return attempt("run", "--rm", *allowed, *unconfined, *where, *options, self.image, "install", *words)


@pytest.fixture
def host(image: str) -> Iterator[Host]:
    name = docker("run", "--detach", "--entrypoint", "sleep", image, "3600").strip()
    try:
        container = Container(name)
        host = Host(container, container.inspect()["GraphDriver"]["Data"]["MergedDir"], image)
        container.execute("rm", "-rf", "/opt/beta9-worker")  # a host has nothing from the image
        host.write("/usr/bin/systemd-run", SYSTEMD_RUN)
        host.write("/usr/bin/docker", DOCKER)
        host.write("/etc/beta9-worker/worker.env", SETTINGS, "0600")
        yield host
    finally:
        attempt("rm", "--force", name)


def test_a_dry_run_shows_the_plan_and_changes_nothing(host: Host) -> None:
    before = host.container.execute(
        "find", "/", "-xdev", "-newer", "/etc/beta9-worker/worker.env", "-type", "f"
    )
    done = host.install("--dry-run")
    assert done.code == 0, done.output
    assert "settings: BETA9_POOL_NAME BETA9_SSH_HOST" in done.stdout
    assert "preflight" in done.stdout
    assert (
        host.container.execute("find", "/", "-xdev", "-newer", "/etc/beta9-worker/worker.env", "-type", "f")
        == before
    )
    assert attempt("exec", host.container.name, "test", "-e", "/opt/beta9-worker").code == 1


def test_the_bootstrap_runs_on_the_host_and_its_output_is_shown(host: Host, repository: Path) -> None:
    done = host.install(options=("-e", "BETA9_SOURCE=passed on"))
    release = host.container.execute("readlink", "-f", "/opt/beta9-worker/current").strip()
    assert release.startswith("/opt/beta9-worker/releases/")
    text = host.container.execute("cat", "/opt/beta9-worker/current/bootstrap/install.sh")
    assert text == (repository / "bootstrap/install.sh").read_text(encoding="utf-8")
    assert host.container.execute("cat", f"{release}/agent-image") == f"sha256:{7:064d}\n"
    # The real preflight refuses a machine without systemd; its message shows that it ran there and was followed.
    assert done.code == 1, done.output
    assert "preflight" in done.stdout
    assert "systemd" in done.stdout
    report = host.container.execute("cat", "/var/lib/beta9-worker/bootstrap.json")
    assert '"failed_stage":"preflight"' in report.replace(" ", "")
    assert attempt("exec", host.container.name, "test", "-e", "/run/beta9-worker-install.env").code == 1


def test_steps_get_settings_from_the_file_and_from_the_command(host: Host) -> None:
    """The real steps are replaced by one that prints its settings."""
    first = host.install()
    assert first.code == 1
    steps = "/opt/beta9-worker/current/bootstrap/steps"
    host.container.execute("bash", "-c", f"rm -f {steps}/*")
    host.write(f"{steps}/10-print.sh", STEP)
    done = host.install(options=("-e", 'BETA9_SOURCE=with "quotes" and $signs'))
    assert done.code == 0, done.output
    assert 'pool gpu, gateway gateway.example, source with "quotes" and $signs' in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "/host is not the host's /"),
        (["-v", "/etc:/host/etc:ro"], "process 1 is not the host's"),
    ],
)
def test_without_the_needed_options_it_prints_the_command(
    image: str, options: list[str], message: str
) -> None:
    done = attempt("run", "--rm", *options, image, "install")
    assert done.code == 78
    assert message in done.stderr
    assert "docker run --rm --privileged --pid host -v /:/host IMAGE install" in done.stderr
