"""The container toolkit: a sound one is left alone, an old one replaced, and only by whom the pin names."""

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


def test_a_cpu_machine_gets_none(machine: Throwaway, repositories: Repositories) -> None:
    machine.pci("lspci-none")
    for name in ("toolkit", "gpu-devices", "docker-gpu", "device-plugin", "gpus", "fabric"):
        ended = machine.step(name, **repositories.settings)
        assert (ended.code, ended.why, ended.changes) == (10, "no NVIDIA device: a CPU machine", ()), name


def test_it_comes_from_its_keyed_repository_and_once(machine: Throwaway, repositories: Repositories) -> None:
    ended = machine.step("toolkit", **repositories.settings)
    assert ended.code == 0, ended.output
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
    assert machine.installed("libnvidia-container1") == TOOLKIT
    assert "signed-by=/etc/apt/keyrings/beta9-toolkit.gpg" in machine.read(
        "/etc/apt/sources.list.d/beta9-toolkit.list"
    )
    assert not machine.path("/var/lib/beta9-worker/bootstrap/pending-k3s").exists()
    again = machine.step("toolkit", **repositories.settings)
    assert (again.code, again.changes) == (0, ()), again.output


def test_a_repository_that_is_signed_by_somebody_else_brings_nothing(
    machine: Throwaway, repositories: Repositories
) -> None:
    settings = {
        **repositories.settings,
        "BETA9_TOOLKIT_KEY_FINGERPRINT": "C95B321B61E88C1809C4F759DDCAE044F796ECB0",
    }
    ended = machine.step("toolkit", **settings)
    assert ended.code == 1
    assert "holds the key" in ended.why
    assert not machine.installed("nvidia-container-toolkit")


def test_one_with_the_known_hole_is_replaced_though_it_is_held(
    machine: Throwaway, repositories: Repositories
) -> None:
    install(machine, "1.17.7-1")
    machine.run("apt-mark", "hold", "nvidia-container-toolkit", "nvidia-container-toolkit-base")
    machine.write("/standin/units/k3s.active", "")
    ended = machine.step("toolkit", **repositories.settings)
    assert ended.code == 0, ended.output
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
    assert "container toolkit 1.17.7 has CVE-2025-23266" in machine.read("/tmp/console")
    assert machine.path("/var/lib/beta9-worker/bootstrap/pending-k3s").exists(), (
        "k3s looks for the runtime when it starts"
    )


def test_one_that_is_new_enough_is_left_alone(machine: Throwaway, repositories: Repositories) -> None:
    install(machine, "1.17.8-1")
    ended = machine.step("toolkit", **repositories.settings)
    assert (ended.code, ended.changes) == (0, ())
    assert machine.installed("nvidia-container-toolkit") == "1.17.8-1"
    assert not machine.path("/etc/apt/sources.list.d/beta9-toolkit.list").exists()


def test_a_pin_with_the_known_hole_is_refused(machine: Throwaway, repositories: Repositories) -> None:
    ended = machine.step("toolkit", **{**repositories.settings, "BETA9_TOOLKIT_VERSION": "1.17.7-1"})
    assert ended.code == 1
    assert ended.why == "BETA9_TOOLKIT_VERSION is '1.17.7', older than 1.17.8 (CVE-2025-23266)"


def test_the_images_own_entry_for_the_repository_gives_way(
    machine: Throwaway, repositories: Repositories
) -> None:
    """apt ends in an error where two files name one repository with different keys."""
    place = "https://nvidia.github.io/libnvidia-container/stable/deb/amd64"
    old = f"deb [signed-by=/usr/share/keyrings/theirs.gpg] {place} /\n"
    machine.write("/etc/apt/sources.list.d/nvidia-container-toolkit.list", old + "# a comment\n")
    deb822 = f"Types: deb\nURIs: {place}\nSuites: /\n"
    machine.write("/etc/apt/sources.list.d/theirs.sources", deb822)
    install_before = machine.read("/etc/apt/sources.list")
    ended = machine.step("toolkit", **repositories.settings)
    assert ended.code == 0, ended.output
    assert machine.read("/etc/apt/sources.list.d/nvidia-container-toolkit.list") == f"# {old}# a comment\n"
    assert machine.read("/etc/apt/sources.list.d/theirs.sources") == "Enabled: no\n" + deb822
    assert machine.read("/etc/apt/sources.list") == install_before
    assert machine.read("/var/lib/beta9-worker/bootstrap/record").count("original\t") == 2


def test_docker_gets_the_runtime_and_keeps_what_else_it_was_told(machine: Throwaway) -> None:
    given_toolkit(machine)
    machine.write("/etc/docker/daemon.json", '{"data-root": "/scratch/docker"}', 0o600)
    ended = machine.step("docker-gpu")
    assert ended.code == 0, ended.output
    config = json.loads(machine.read("/etc/docker/daemon.json"))
    assert config["data-root"] == "/scratch/docker"
    assert config["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert machine.path("/etc/docker/daemon.json").stat().st_mode & 0o777 == 0o600
    assert machine.called("systemctl").count("restart docker") == 1
    again = machine.step("docker-gpu")
    assert (again.code, again.changes) == (0, ())
    assert machine.called("systemctl").count("restart docker") == 1


def test_a_restart_of_docker_that_was_interrupted_is_made_up_for(machine: Throwaway) -> None:
    given_toolkit(machine)
    machine.write("/standin/units/docker.broken", "")
    ended = machine.step("docker-gpu")
    assert (ended.code, ended.why) == (1, "Docker does not start with the runtime nvidia")
    machine.path("/standin/units/docker.broken").unlink()
    assert machine.step("docker-gpu").changes == ("restarted Docker",)


def test_devices_get_links_now_and_at_every_load_of_the_driver(machine: Throwaway) -> None:
    given_toolkit(machine)
    ended = machine.step("gpu-devices")
    assert ended.code == 0, ended.output
    assert "made 2 links in /dev/char" in ended.changes
    rule = machine.read("/etc/udev/rules.d/71-beta9-nvidia-dev-char.rules")
    assert 'RUN+="/usr/bin/nvidia-ctk system create-dev-char-symlinks --create-all"' in rule
    assert machine.called("udevadm") == ["control --reload"]
    again = machine.step("gpu-devices")
    assert (again.code, again.changes) == (0, ()), again.output


UPDATE_MEANWHILE = """
. /bootstrap/lib/step.sh
mkfifo /tmp/go
apt_get() { touch /tmp/began; read -r _ </tmp/go; }
with_apt refresh_lists &
until [[ -e /tmp/began ]]; do sleep 0.05; done
apt_repository toolkit file:///repository/toolkit/gpgkey "$KEY" "deb file:///repository/toolkit /" &
until [[ -e /etc/apt/sources.list.d/beta9-toolkit.list ]]; do sleep 0.05; done
sleep 0.5 # whatever it does without waiting, it has done
echo >/tmp/go
wait
if lists_fresh; then exit 3; fi
"""


def test_an_update_that_began_before_the_repository_was_there_does_not_count_as_fresh(
    machine: Throwaway, repositories: Repositories
) -> None:
    """Two stages side by side: one reads the package lists while the other adds a repository."""
    machine.path("/tmp/scratch").mkdir()
    env = {"BETA9_BOOTSTRAP": "/bootstrap", "BETA9_RUN": "/tmp/scratch", "BETA9_STAGE": "toolkit"}
    done = machine.run("bash", "-c", UPDATE_MEANWHILE, env={**env, "KEY": repositories.fingerprint})
    assert done.returncode == 0, done.stdout + done.stderr
