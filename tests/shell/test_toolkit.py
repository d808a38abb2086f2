"""The container toolkit: a recent one is kept, an old one replaced, from a source whose key matches the pin."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import TOOLKIT, given_driver, given_toolkit
from tests.shell.throwaway import Throwaway, requires_root

pytestmark = requires_root
Machines = Callable[[str], Throwaway]


@pytest.fixture
def machine(copy_of_machine: Machines) -> Throwaway:
    copy = copy_of_machine("ubuntu-22.04")
    copy.pci("lspci-t4")
    given_driver(copy)
    return copy


def install(machine: Throwaway, version: str) -> None:
    machine.run("apt-get", "update")
    names = (
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
        "libnvidia-container-tools",
        "libnvidia-container1",
    )
    done = machine.run("apt-get", "install", "-y", *(f"{name}={version}" for name in names))
    assert done.returncode == 0, done.stderr


def test_a_cpu_machine_skips_all_gpu_steps(machine: Throwaway, repositories: Repositories) -> None:
    machine.pci("lspci-none")
    for name in ("toolkit", "gpu-devices", "docker-gpu", "device-plugin", "gpus", "fabric"):
        result = machine.step(name, **repositories.settings)
        assert (result.code, result.reason, result.changes) == (
            10,
            "no NVIDIA device: this is a CPU machine",
            (),
        ), name


def test_it_is_installed_once_from_its_signed_repository(
    machine: Throwaway, repositories: Repositories
) -> None:
    result = machine.step("toolkit", **repositories.settings)
    assert result.code == 0, result.output
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
    assert machine.installed("libnvidia-container1") == TOOLKIT
    assert "signed-by=/etc/apt/keyrings/beta9-toolkit.gpg" in machine.read(
        "/etc/apt/sources.list.d/beta9-toolkit.list"
    )
    assert not machine.path("/var/lib/beta9-worker/bootstrap/pending-k3s").exists()
    again = machine.step("toolkit", **repositories.settings)
    assert (again.code, again.changes) == (0, ()), again.output


def test_nothing_is_installed_from_a_repository_with_another_key(
    machine: Throwaway, repositories: Repositories
) -> None:
    settings = {
        **repositories.settings,
        "BETA9_TOOLKIT_KEY_FINGERPRINT": "C95B321B61E88C1809C4F759DDCAE044F796ECB0",
    }
    result = machine.step("toolkit", **settings)
    assert result.code == 1
    assert "contains the key" in result.reason
    assert not machine.installed("nvidia-container-toolkit")


def test_a_vulnerable_version_is_replaced_even_if_it_is_held(
    machine: Throwaway, repositories: Repositories
) -> None:
    install(machine, "1.17.7-1")
    machine.run("apt-mark", "hold", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
    machine.write("/standin/units/k3s.active", "")
    result = machine.step("toolkit", **repositories.settings)
    assert result.code == 0, result.output
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
    assert "container toolkit 1.17.7 has CVE-2025-23266" in machine.read("/tmp/console")
    assert machine.path("/var/lib/beta9-worker/bootstrap/pending-k3s").exists(), (
        "k3s detects the runtime only at startup"
    )


def test_a_recent_version_is_kept(machine: Throwaway, repositories: Repositories) -> None:
    install(machine, "1.17.8-1")
    result = machine.step("toolkit", **repositories.settings)
    assert (result.code, result.changes) == (0, ())
    assert machine.installed("nvidia-container-toolkit") == "1.17.8-1"
    assert not machine.path("/etc/apt/sources.list.d/beta9-toolkit.list").exists()


def test_pinning_a_vulnerable_version_is_refused(machine: Throwaway, repositories: Repositories) -> None:
    result = machine.step("toolkit", **{**repositories.settings, "BETA9_TOOLKIT_VERSION": "1.17.7-1"})
    assert result.code == 1
    assert result.reason == "BETA9_TOOLKIT_VERSION is '1.17.7', older than 1.17.8 (CVE-2025-23266)"


def test_existing_entries_for_the_repository_are_disabled(
    machine: Throwaway, repositories: Repositories
) -> None:
    """apt fails if two files configure one repository with different keys."""
    url = "https://nvidia.github.io/libnvidia-container/stable/deb/amd64"
    old = f"deb [signed-by=/usr/share/keyrings/theirs.gpg] {url} /\n"
    machine.write("/etc/apt/sources.list.d/nvidia-container-toolkit.list", old + "# a comment\n")
    deb822 = f"Types: deb\nURIs: {url}\nSuites: /\n"
    machine.write("/etc/apt/sources.list.d/theirs.sources", deb822)
    before = machine.read("/etc/apt/sources.list")
    result = machine.step("toolkit", **repositories.settings)
    assert result.code == 0, result.output
    assert machine.read("/etc/apt/sources.list.d/nvidia-container-toolkit.list") == f"# {old}# a comment\n"
    assert machine.read("/etc/apt/sources.list.d/theirs.sources") == "Enabled: no\n" + deb822
    assert machine.read("/etc/apt/sources.list") == before
    assert machine.read("/var/lib/beta9-worker/bootstrap/record").count("original\t") == 2


def test_docker_gets_the_runtime_and_keeps_its_other_settings(machine: Throwaway) -> None:
    given_toolkit(machine)
    machine.write("/etc/docker/daemon.json", '{"data-root": "/scratch/docker"}', 0o600)
    result = machine.step("docker-gpu")
    assert result.code == 0, result.output
    config = json.loads(machine.read("/etc/docker/daemon.json"))
    assert config["data-root"] == "/scratch/docker"
    assert config["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert machine.path("/etc/docker/daemon.json").stat().st_mode & 0o777 == 0o600
    assert machine.called("systemctl").count("restart docker") == 1
    again = machine.step("docker-gpu")
    assert (again.code, again.changes) == (0, ())
    assert machine.called("systemctl").count("restart docker") == 1


def test_a_failed_restart_of_docker_is_repeated(machine: Throwaway) -> None:
    given_toolkit(machine)
    machine.write("/standin/units/docker.broken", "")
    result = machine.step("docker-gpu")
    assert (result.code, result.reason) == (1, "Docker does not start with the runtime nvidia")
    machine.path("/standin/units/docker.broken").unlink()
    assert machine.step("docker-gpu").changes == ("restarted Docker",)


def test_devices_get_links_now_and_whenever_the_driver_is_loaded(machine: Throwaway) -> None:
    given_toolkit(machine)
    result = machine.step("gpu-devices")
    assert result.code == 0, result.output
    assert "created 2 links in /dev/char" in result.changes
    rule = machine.read("/etc/udev/rules.d/71-beta9-nvidia-dev-char.rules")
    assert 'RUN+="/usr/bin/nvidia-ctk system create-dev-char-symlinks --create-all"' in rule
    assert machine.called("udevadm") == ["control --reload"]
    again = machine.step("gpu-devices")
    assert (again.code, again.changes) == (0, ()), again.output


@pytest.mark.parametrize(
    "ending", ["echo 'failed to determine major' >&2; exit 1", "echo 'No help topic for' >&2; exit 3"]
)
def test_links_that_cannot_be_created_are_said_and_gone_on_from(machine: Throwaway, ending: str) -> None:
    """Field case 5.9: they are a precaution, and GPUs work without them."""
    machine.write("/usr/bin/nvidia-ctk", f"#!/bin/sh\n{ending}\n", 0o755)
    result = machine.step("gpu-devices")
    assert result.code == 0, result.output
    assert "warning: nvidia-ctk created no links in /dev/char" in machine.read("/tmp/console")


def test_docker_that_started_before_the_toolkit_came_is_restarted(
    machine: Throwaway, repositories: Repositories
) -> None:
    """Field case 11.3: its configuration names the runtime already, so that no file changes."""
    runtime = {"args": [], "path": "nvidia-container-runtime"}
    machine.write("/etc/docker/daemon.json", json.dumps({"runtimes": {"nvidia": runtime}}))
    machine.write("/standin/units/docker.active", "")
    assert machine.step("toolkit", **repositories.settings).code == 0
    result = machine.step("docker-gpu")
    assert (result.code, result.changes) == (0, ("restarted Docker",)), result.output
    assert machine.step("docker-gpu").changes == ()
    assert machine.called("systemctl").count("restart docker") == 1


@pytest.mark.parametrize("hook", ["nvidia-container-runtime-hook", "another-program"])
def test_docker_that_started_before_somebody_added_its_files_is_restarted(
    machine: Throwaway, hook: str
) -> None:
    """Field case 11.3, where the bootstrap has written neither the toolkit nor the configuration."""
    given_toolkit(machine)
    runtime = {"args": [], "path": "nvidia-container-runtime"}
    program, config = f"/usr/bin/{hook}", "/etc/docker/daemon.json"
    machine.write(program, "#!/bin/sh\n", 0o755)
    machine.write(config, json.dumps({"runtimes": {"nvidia": runtime}}))
    newest_s = int(max(machine.path(name).stat().st_ctime for name in (program, config)))
    machine.write("/standin/units/docker.started", f"@{newest_s}\n")
    assert machine.step("docker-gpu").changes == (), "both are older than Docker"
    machine.write("/standin/units/docker.started", f"@{newest_s - 60}\n")
    result = machine.step("docker-gpu")
    assert result.changes == ("restarted Docker",)
    assert "is newer than the running Docker" in result.output


CONCURRENT_UPDATE = """
. /bootstrap/lib/step.sh
mkfifo /tmp/go
(
  apt_get() { touch /tmp/began; read -r _ </tmp/go; apt_get_once "$@"; }
  with_apt refresh_lists
) &
until [[ -e /tmp/began ]]; do sleep 0.05; done
apt_repository toolkit file:///repository/toolkit/gpgkey "$KEY" "deb file:///repository/toolkit /" &
until [[ -e /etc/apt/keyrings/beta9-toolkit.gpg ]]; do sleep 0.05; done
sleep 0.5 # enough for everything it does without waiting for the lock
echo >/tmp/go
wait
lists_fresh && apt_install nvidia-container-toolkit=VERSION
"""


def test_the_lists_of_a_repository_survive_an_update_that_began_before_it_was_added(
    machine: Throwaway, repositories: Repositories
) -> None:
    """Two parallel stages: one updates the package lists while the other adds a repository."""
    machine.path("/tmp/scratch").mkdir()
    env = {"BETA9_BOOTSTRAP": "/bootstrap", "BETA9_RUN": "/tmp/scratch", "BETA9_STAGE": "toolkit"}
    script = CONCURRENT_UPDATE.replace("VERSION", TOOLKIT)
    done = machine.run("bash", "-c", script, env={**env, "KEY": repositories.fingerprint})
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
