"""boot.sh on a machine without curl, with real apt: another apt runs, others' sources are broken, a proxy is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import BOOT, tarball
from tests.shell.packages import Package, publish
from tests.shell.throwaway import Throwaway, requires_root

pytestmark = requires_root
CURL = '#!/bin/bash\ncat >/dev/null\ncp /release.tar.gz "${@: -1}"\n'
"""Downloads what every URL is about here; the package has no more."""
PROXY = """
import http.server, os.path, urllib.parse
class Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        return "/packages" + os.path.normpath(urllib.parse.urlsplit(path).path)
http.server.HTTPServer(("127.0.0.1", 3128), Handler).serve_forever()
"""
"""Serves the packages under every URL, and writes the URLs to its standard error."""
WITH_PROXY = """
ip link set lo up
python3 /proxy.py 2>/proxy.log &
until (: </dev/tcp/127.0.0.1/3128) 2>/dev/null; do sleep 0.1; done
"$@"
code=$?
kill $!
exit $code
"""
HOLD = """
import fcntl, sys, time
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def machine(copy_of_machine: Callable[[str], Throwaway], tmp_path: Path) -> Throwaway:
    """A machine without curl, which its distribution has, and with a source on the web in worker.env."""
    machine = copy_of_machine("debian-12")
    publish(tmp_path / "packages", [Package("curl", "99", files={"/usr/bin/curl": CURL})])
    machine.path("/packages").mkdir()
    for file in (tmp_path / "packages").iterdir():
        machine.path(f"/packages/{file.name}").write_bytes(file.read_bytes())
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/packages /\n")
    assert machine.run("dpkg", "--force-all", "--purge", "curl").returncode == 0
    location = tarball(tmp_path / "release.tar.gz")
    machine.path("/release.tar.gz").write_bytes((tmp_path / "release.tar.gz").read_bytes())
    source = f"https://releases.example/b.tar.gz#{location.partition('#')[2]}"
    machine.write("/etc/beta9-worker/worker.env", f"BETA9_SOURCE={source}\n")
    machine.write("/boot.sh", BOOT.read_text())
    return machine


def boot(machine: Throwaway) -> subprocess.CompletedProcess[str]:
    return machine.run("bash", "/boot.sh", env={"BETA9_RETRY_DELAY": "1"})


@contextmanager
def held(machine: Throwaway, lock: str, seconds: float) -> Iterator[None]:
    """Hold a lock of apt's for a while, as unattended upgrades do in a first boot."""
    file = machine.path(lock)
    file.parent.mkdir(parents=True, exist_ok=True)
    holder = subprocess.Popen(
        ["python3", "-c", HOLD, str(file), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    "lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"]
)
def test_another_apt_is_waited_for(machine: Throwaway, lock: str) -> None:
    """Field case 5.2: not given up at once."""
    with held(machine, lock, 8):
        done = boot(machine)
    assert "installer of" in done.stdout, done.stdout + done.stderr
    assert "Could not get lock" in done.stdout


def test_a_broken_source_of_somebody_else_is_no_obstacle(machine: Throwaway) -> None:
    """Field case 5.4, of boot.sh: the distribution has curl, whatever the update says about other sources."""
    machine.write("/etc/apt/sources.list.d/old.list", "deb [trusted=yes] file:/not/here /\n")
    assert machine.run("apt-get", "update").returncode != 0
    done = boot(machine)
    assert "installer of" in done.stdout, done.stdout + done.stderr


def test_what_is_missing_everywhere_is_given_up_soon(machine: Throwaway) -> None:
    machine.write("/etc/apt/sources.list", "")
    done = boot(machine)
    assert done.returncode == 1
    assert "curl could not be installed" in done.stderr
    assert done.stdout.count("Unable to locate package curl") + done.stdout.count("has no installation") == 4


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("command", ["/boot.sh", "/bootstrap/steps/12-tools.sh"])
def test_packages_come_through_the_proxy(machine: Throwaway, command: str, name: str) -> None:
    """Field case 14.1: apt of boot.sh and of the installer; there is no other way, and no name can be resolved."""
    machine.write("/etc/apt/sources.list", "deb [trusted=yes] http://packages.invalid/ /\n")
    settings = machine.read("/etc/beta9-worker/worker.env")
    machine.write("/etc/beta9-worker/worker.env", f"{name}=http://127.0.0.1:3128\n{settings}")
    machine.write("/proxy.py", PROXY)
    machine.run(
        "bash", "-c", WITH_PROXY, "-", "bash", command, env={"BETA9_ENV_FILE": "/etc/beta9-worker/worker.env"}
    )
    assert machine.installed("curl") == "99"
    assert '"GET http://packages.invalid/' in machine.read("/proxy.log")
