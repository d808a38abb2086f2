"""Nothing is removed that nobody asked to remove: the installation is refused, and the packages are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.shell.packages import Package, publish
from tests.shell.throwaway import Throwaway, requires_root

pytestmark = requires_root
RECORD = "/var/lib/beta9-worker/bootstrap/record"


@pytest.fixture
def docker(machine: Throwaway) -> Throwaway:
    """A machine without Docker, and a distribution whose containerd excludes Docker's own."""
    stanzas = machine.read("/var/lib/dpkg/status").split("\n\n")
    without = [each for each in stanzas if not each.startswith(("Package: docker", "Package: containerd"))]
    machine.write("/var/lib/dpkg/status", "\n\n".join(without))
    for program in ("/usr/bin/dockerd", "/usr/sbin/dockerd"):
        machine.path(program).unlink(missing_ok=True)
    machine.write("/usr/local/bin/docker", "#!/bin/sh\n[ -e /usr/bin/dockerd ] && echo 20.10\n", 0o755)
    packages = [
        Package("containerd", "1.6", conflicts=("containerd.io",)),
        Package(
            "docker.io",
            "20.10",
            ("containerd",),
            {"/usr/bin/dockerd": "#!/bin/sh\n"},
            conflicts=("rootless",),
        ),
        Package("containerd.io", "1.7"),
        Package("theirs", "1", ("containerd.io",)),
        Package("rootless", "1"),
    ]
    publish(machine.path("/site/distribution"), packages)
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/site/distribution /\n")
    machine.run("apt-get", "update")
    return machine


@pytest.mark.parametrize(
    ("there", "named"), [(["theirs"], "containerd.io theirs"), (["rootless"], "rootless")]
)
def test_docker_removes_nothing(docker: Throwaway, there: list[str], named: str) -> None:
    """Field case 5.7."""
    docker.run("apt-get", "install", "-y", *there)
    result = docker.step("docker")
    assert (result.code, result.changes) == (1, ())
    assert result.reason == f"apt could not install docker.io: this would remove {named}"
    assert f"apt-get remove {named}" in result.fix
    assert all(docker.installed(each) for each in named.split())
    assert "package\t" not in docker.read(RECORD)


def test_containerd_io_gets_its_own_docker(docker: Throwaway) -> None:
    """Field case 5.7, where Docker's repository is configured: a machine that works is better than a good error."""
    docker.run("apt-get", "install", "-y", "theirs")
    own = Package("docker-ce", "5:27.3", ("containerd.io",), {"/usr/bin/dockerd": "#!/bin/sh\n"})
    publish(docker.path("/site/docker"), [own])
    docker.write("/etc/apt/sources.list.d/docker.list", "deb [trusted=yes] file:/site/docker /\n")
    result = docker.step("docker")
    assert result.code == 0, result.output
    assert result.changes[0] == "installed docker-ce"
    assert docker.installed("theirs")
    assert "package\tdocker-ce\n" in docker.read(RECORD)


@pytest.mark.parametrize("ending", ["", "; exit 0"], ids=["code-kept", "code-dropped"])
def test_ubuntu_drivers_removes_nothing(copy_of_machine: Callable[[str], Throwaway], ending: str) -> None:
    machine = copy_of_machine("ubuntu-24.04")
    machine.pci("lspci-t4")
    machine.write("/standin/uname", "6.8.0-1015-aws\n")
    theirs = Package("theirs", "1", conflicts=("nvidia-kernel-common-580-server",))
    publish(machine.path("/site/theirs"), [theirs])
    machine.run("dpkg", "--install", "/site/theirs/theirs_1_all.deb")
    machine.run("apt-get", "update")
    machine.run("apt-get", "install", "-y", "linux-headers-6.8.0-1015-aws", "ubuntu-drivers-common")
    script = f"#!/bin/bash\napt-get install -y nvidia-headless-no-dkms-580-server{ending}\n"
    machine.write("/usr/bin/ubuntu-drivers", script, 0o755)
    result = machine.step("driver")
    assert result.code == 1
    assert result.reason == "ubuntu-drivers could not install a driver: this would remove theirs"
    assert machine.installed("theirs")


def test_what_somebody_no_longer_needs_stays_as_well(machine: Throwaway) -> None:
    """Some machines remove packages that nothing depends on with every installation."""
    machine.write("/etc/apt/apt.conf.d/zz", 'APT::Get::AutomaticRemove "true";\n')
    publish(machine.path("/site/theirs"), [Package("left-over", "1")])
    machine.run("dpkg", "--install", "/site/theirs/left-over_1_all.deb")
    machine.run("apt-mark", "auto", "left-over")
    result = machine.step("tools")
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output
    assert machine.installed("left-over")


def test_dependencies_that_cannot_be_met_are_named(machine: Throwaway) -> None:
    tools = Package("nftables", "1.0.7", ("libnowhere",), {"/usr/bin/nft": "#!/bin/sh\n"})
    publish(machine.path("/site/broken"), [tools])
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/site/broken /\n")
    result = machine.step("tools")
    assert result.code == 1
    assert "nftables : Depends: libnowhere but it is not installable" in result.reason
