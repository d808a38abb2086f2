"""Sources of packages that somebody else configured: dead ones are passed over and named, broken ones named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import given_driver
from tests.shell.packages import Key, Package, publish
from tests.shell.throwaway import RECORDED, Throwaway, requires_root

pytestmark = requires_root
OLD_LIST = "/etc/apt/sources.list.d/old.list"
SERVER = """
import http.server, os
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        code = int(self.path[1:4]) if self.path[1:4].isdigit() else 0
        if code or os.path.exists("/standin/down"):
            self.send_error(code or 404)
        else:
            super().do_GET()
os.chdir("/site")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@pytest.fixture
def served(machine: Throwaway, tmp_path: Path) -> Iterator[Throwaway]:
    """/site is served on port 8080, and has one repository that has expired and one with an unknown key."""
    key = Key(tmp_path / "keys")
    key.gpg("--export", "--output", str(machine.path("/site/known.gpg")))
    publish(machine.path("/site/expired"), [Package("a", "1")], key, "Wed, 26 Nov 2025 00:00:00 UTC")
    publish(machine.path("/site/unknown"), [Package("b", "1")], key)
    # Some images switch these off.
    machine.write("/etc/apt/apt.conf.d/zz", 'Acquire { Check-Date "true"; Check-Valid-Until "true"; };\n')
    machine.run("ip", "link", "set", "lo", "up")
    with machine.background("python3", "-c", SERVER):
        yield machine


DEAD = {
    "deb [trusted=yes] http://127.0.0.1:8080/404 stable main": "http://127.0.0.1:8080/404/dists/stable",
    "deb [trusted=yes] http://127.0.0.1:8080/403 stable main": "http://127.0.0.1:8080/403/dists/stable",
    "deb http://127.0.0.1:8080/410 stable main": "http://127.0.0.1:8080/410 stable",
    "deb http://127.0.0.1:8080/unknown /": "NO_PUBKEY",
    "deb [signed-by=/site/known.gpg] http://127.0.0.1:8080/expired /": "http://127.0.0.1:8080/expired",
    "deb [trusted=yes] http://user:hush@127.0.0.1:1 stable main": "http://127.0.0.1:1/dists/stable",
}


@pytest.mark.parametrize("line", DEAD, ids=["404", "403", "410", "unknown-key", "expired", "refused"])
def test_what_can_be_had_is_installed_and_the_dead_source_is_named(served: Throwaway, line: str) -> None:
    """Field case 5.4."""
    served.write(OLD_LIST, line + "\n")
    result = served.step("tools")
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output
    (warning,) = (text for text in served.read("/tmp/console").splitlines() if "warning" in text)
    assert "passed over sources of packages that apt cannot read" in warning
    assert DEAD[line] in warning
    assert "hush" not in warning


def test_a_package_that_no_source_has_is_named_together_with_the_dead_ones(served: Throwaway) -> None:
    """Field case 5.4."""
    served.write("/etc/apt/sources.list", "")
    served.write(OLD_LIST, "deb http://127.0.0.1:8080/404 stable main\n")
    result = served.step("tools")
    assert result.code == 1
    assert result.reason.startswith("apt could not install nftables: ")
    assert "nftables" in result.reason.partition(": ")[2]
    assert "http://127.0.0.1:8080/404 stable" in result.reason
    assert "sources.list.d" in result.fix


def test_a_source_that_comes_up_late_is_tried_again(served: Throwaway) -> None:
    served.write("/etc/apt/sources.list", "deb [trusted=yes] http://127.0.0.1:8080/tools /\n")
    served.write("/standin/down", "")
    served.write("/usr/local/bin/sleep", "#!/bin/sh\nrm -f /standin/down\n", 0o755)
    result = served.step("tools")
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output
    assert "warning" not in served.read("/tmp/console")


def test_a_mirror_that_moved_on_since_the_lists_were_read_is_read_again(served: Throwaway) -> None:
    """The package's file is gone, as on every mirror of an archive whose version is newer than the lists."""
    served.write("/etc/apt/sources.list", "deb [trusted=yes] http://127.0.0.1:8080/tools /\n")
    publish(
        served.path("/site/newer"), [Package("nftables", "1.0.6-3", files={"/usr/bin/nft": "#!/bin/sh\n"})]
    )
    served.path("/site/tools/nftables_1.0.6-2_all.deb").unlink()
    for file in served.path("/site/tools").iterdir():
        os.utime(file, (0, 0))  # so that the newer files are newer for HTTP
    served.write("/usr/local/bin/sleep", "#!/bin/sh\nrm -r /site/tools\nmv /site/newer /site/tools\n", 0o755)
    result = served.step("tools")
    assert (result.code, result.changes) == (0, ("installed nftables",)), result.output
    assert served.installed("nftables") == "1.0.6-3"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "a.list",
            "deb http://127.0.0.1:1\n",
            "Malformed entry 1 in list file /etc/apt/sources.list.d/a.list",
        ),
        (
            "a.list",
            "\ndebx http://127.0.0.1:1 /\n",
            "is not known on line 2 in source list /etc/apt/sources.list.d/a.list",
        ),
        (
            "a.sources",
            "Types: deb\nURIs: file:/x\n",
            "Malformed entry 1 in sources file /etc/apt/sources.list.d/a.sources",
        ),
        (
            "a.list",
            "deb [signed-by=/a.gpg] http://h/x /\ndeb [signed-by=/b.gpg] https://h/x /\n",
            "Conflicting values set for option Signed-By regarding source http://h/x/ /: /a.gpg != /b.gpg",
        ),
    ],
)
def test_sources_that_apt_cannot_parse_are_named(
    machine: Throwaway, file: str, content: str, reason: str
) -> None:
    """Field case 5.8: by file and line, at once, and no mirror is blamed."""
    machine.write(f"/etc/apt/sources.list.d/{file}", content)
    result = machine.step("tools")
    assert result.code == 1
    assert result.reason.startswith("apt cannot read its list of sources: ")
    assert reason in result.reason
    assert "mirror" not in result.reason + result.fix
    assert "attempt" not in result.output


def test_a_driver_that_is_missing_because_its_source_is_dead_is_not_called_unknown(served: Throwaway) -> None:
    """ubuntu-drivers ends well if the archive could not be read, and knows no driver then."""
    served.write("/etc/os-release", (RECORDED / "os-release-ubuntu-24.04").read_text())
    served.pci("lspci-t4")
    served.write("/standin/uname", "6.8.0-1015-aws\n")
    served.write("/etc/apt/sources.list", "deb [trusted=yes] file:/repository/distribution /\n")
    served.run("apt-get", "update")
    served.run("apt-get", "install", "-y", "linux-headers-6.8.0-1015-aws", "ubuntu-drivers-common")
    served.write("/etc/apt/sources.list", "deb http://127.0.0.1:8080/404 stable main\n")
    served.write("/standin/no-driver-known", "")
    result = served.step("driver")
    assert result.code == 1
    assert "http://127.0.0.1:8080/404 stable" in result.reason
    assert len(served.called("ubuntu-drivers")) == 5


@pytest.mark.parametrize("step", ["toolkit", "driver"])
def test_a_repository_of_ours_that_fails_is_an_error_and_leaves_nothing_behind(
    served: Throwaway, repositories: Repositories, step: str
) -> None:
    """Field case 5.5: whatever a failed step wrote would go on to break every call of apt on the machine."""
    served.pci("lspci-t4")
    settings = {
        **repositories.settings,
        "BETA9_TOOLKIT_REPOSITORY": "http://127.0.0.1:8080/404",
        "BETA9_NVIDIA_REPOSITORY": "http://127.0.0.1:8080/404",
        "BETA9_NVIDIA_BRANCH": "580",
    }
    if step == "toolkit":
        given_driver(served)
    else:
        key = served.path("/site/keys/3bf863cc.pub")
        key.parent.mkdir()
        key.write_text((repositories.directory / "nvidia/3bf863cc.pub").read_text())
        settings["BETA9_FILES_DIR"] = "/site/keys"
    result = served.step(step, **settings)
    assert result.code == 1
    assert result.reason.startswith("the repository http://127.0.0.1:8080/404 cannot be used: ")
    assert "404  Not Found" in result.reason or "Release file" in result.reason
    assert not list(served.path("/etc/apt/sources.list.d").iterdir())
    assert served.run("apt-get", "update").returncode == 0
