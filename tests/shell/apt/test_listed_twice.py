"""One repository under two keys makes apt refuse all: it is switched off where somebody else lists it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import DRIVER, TOOLKIT, given_driver
from tests.shell.throwaway import Throwaway, requires_root

OURS = "https://example.com/repo/amd64"
KEY = "signed-by=/theirs.gpg"

SAME_ONE_LINE = [
    f"deb [{KEY}] {OURS} /",
    f"deb [{KEY}] {OURS}/ /",
    f"deb [{KEY}] http://example.com/repo/amd64 /",
    f"deb [{KEY}] tor+https://example.com/repo/amd64 /",
    f"deb [{KEY}] https://user:hush@example.com/repo/amd64 /",
    f"deb [{KEY}] https://example.com/repo/$(ARCH) /",
    f"deb [{KEY}] https://example.com/repo amd64/",
    f"deb-src [{KEY}] {OURS} /",
    f"  deb  [ arch=amd64  {KEY} ]  {OURS}  /  # a remark",
    f"deb [trusted=yes] {OURS} /",
    f"deb {OURS} /",
]
DEB822 = f"Types: deb\nURIs: {OURS}\nSuites: /\nSigned-By: /theirs.gpg\n"
OTHER = "Types: deb\nURIs: https://example.com/other\nSuites: /\n"
EMBEDDED = (
    "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xjMEZQ\n -----END PGP PUBLIC KEY BLOCK-----\n"
)
SAME_DEB822 = {
    DEB822: f"Enabled: no\n{DEB822}",
    f"Enabled: yes\n{DEB822}": f"Enabled: no\n{DEB822}",
    f"{DEB822}enabled: YES\n": f"{DEB822}enabled: no\n",
    DEB822.replace("Types", "types").replace("URIs", "uris"): (
        f"Enabled: no\n{DEB822}".replace("Types", "types").replace("URIs", "uris")
    ),
    f"{OTHER}\n{DEB822}": f"{OTHER}\nEnabled: no\n{DEB822}",
    f"# theirs\n{DEB822}\n\n# other\n{OTHER}": f"# theirs\nEnabled: no\n{DEB822}\n\n# other\n{OTHER}",
    f"Types: deb\nURIs: {OURS}\nSuites: /\n{EMBEDDED}\n{OTHER}": (
        f"Enabled: no\nTypes: deb\nURIs: {OURS}\nSuites: /\n{EMBEDDED}\n{OTHER}"
    ),
    f"Types: deb\nURIs: {OURS}\n https://example.com/other/\nSuites: /\n{EMBEDDED}": (
        f"Types: deb\nURIs: https://example.com/other/\nSuites: /\n{EMBEDDED}"
    ),
    f"Types: deb\nURIs: https://a.example/x {OURS}\nSuites: / ./": (
        f"Types: deb\nURIs: https://a.example/x\nSuites: / ./\n\nTypes: deb\nURIs: {OURS}\nSuites: ./\n"
    ),
}
NOT_THE_SAME = {
    "list": [
        f"deb [{KEY}] https://example.com/repo/arm64 /",
        f"deb [{KEY}] {OURS} ./",
        f"deb [{KEY}] {OURS} stable main",
        f"# deb [{KEY}] {OURS} /",
        f"deb [{KEY}] https://example.com:8443/repo/amd64 /",
    ],
    "sources": [
        f"{DEB822}Enabled: no\n",
        f"{DEB822}enabled: Off\n",
        OTHER,
        "",
        f"#{DEB822}".replace("\n", "\n#"),
    ],
}
ROWS = [
    *(("list", f"# a comment\n{line}\n", f"# a comment\n# {line}\n") for line in SAME_ONE_LINE),
    *(("sources", before, after) for before, after in SAME_DEB822.items()),
]


def switched_off(text: str, kind: str, uri: str = OURS, suite: str = "/") -> str:
    script = ROOT / "bootstrap/lib/apt_sources.py"
    done = subprocess.run(
        [sys.executable, str(script), kind, "amd64", uri, suite],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def refusal(folder: Path, **files: str) -> str:
    """Return what apt has to say against these sources; "" if it reads them all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    where = ["-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={folder}"]
    done = subprocess.run(
        ["apt-get", "-o", "APT::Architecture=amd64", *where, "update", "--print-uris"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.stderr) == (done.returncode != 0), done.stderr
    return done.stderr


needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt is the judge")


@needs_apt
@pytest.mark.parametrize(("kind", "before", "after"), ROWS)
def test_the_same_repository_is_found_however_it_is_spelled(
    tmp_path: Path, kind: str, before: str, after: str
) -> None:
    """Field cases 5.5 and 5.6: apt judges that it is the same, and that nothing else was switched off."""
    ours = f"deb [signed-by=/ours.gpg] {OURS} /\n"
    folder = tmp_path / "sources.list.d"
    assert "Conflicting values" in refusal(folder, ours_list=ours, **{f"theirs_{kind}": before})
    assert switched_off(before, kind) == after
    assert refusal(folder, ours_list=ours, **{f"theirs_{kind}": after}) == ""
    assert switched_off(after, kind) == after, "a second run changes nothing"


@needs_apt
@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in NOT_THE_SAME.items() for text in texts]
)
def test_another_repository_is_left_alone(tmp_path: Path, kind: str, text: str) -> None:
    ours = f"deb [signed-by=/ours.gpg] {OURS} /\n"
    assert refusal(tmp_path / "sources.list.d", ours_list=ours, **{f"theirs_{kind}": text + "\n"}) == ""
    assert switched_off(text, kind) == text


def test_a_repository_with_suites_is_compared_by_suite() -> None:
    uri = "https://pkgs.example/stable/debian"
    text = f"deb {uri} bookworm main\ndeb {uri} trixie main\n"
    assert switched_off(text, "list", uri, "bookworm") == f"# {text}"
    stanza = f"Types: deb\nURIs: {uri}\nSuites: bookworm trixie\nComponents: main\n"
    assert switched_off(stanza, "sources", uri, "bookworm") == stanza.replace("bookworm ", "")


def test_bytes_that_are_not_text_survive() -> None:
    script = ROOT / "bootstrap/lib/apt_sources.py"
    text = b"# caf\xe9\r\ndeb https://a.example/ /\r\n"
    command = [sys.executable, str(script), "list", "amd64", OURS, "/"]
    assert subprocess.run(command, input=text, capture_output=True, check=True).stdout == text


@requires_root
def test_debians_driver_comes_beside_a_cuda_repository_that_is_listed_already(
    machine: Throwaway, repositories: Repositories
) -> None:
    """Field case 5.5."""
    machine.pci("lspci-t4")
    machine.recorded("smi-L-t4", "smi-L")
    theirs = "/etc/apt/sources.list.d/cuda-debian12-x86_64.list"
    line = "deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] file:///repository/nvidia/ /\n"
    machine.write(theirs, line)
    result = machine.step("driver", **repositories.settings)
    assert result.code == 0, result.output
    assert machine.installed("nvidia-kernel-open-dkms") == DRIVER + "-1"
    assert machine.read(theirs) == f"# {line}"
    update = machine.run("apt-get", "update")
    assert (update.returncode, update.stderr) == (0, "")


@requires_root
def test_the_toolkit_comes_from_a_mirror_that_other_files_name(
    machine: Throwaway, repositories: Repositories
) -> None:
    """Field case 5.6, and the way back: uninstalling restores the files and leaves a working apt."""
    machine.pci("lspci-t4")
    given_driver(machine)
    theirs = "/etc/apt/keyrings/theirs.gpg"
    folder = "/etc/apt/sources.list.d"
    files = {
        f"{folder}/a.list": f"deb [signed-by={theirs}] file:/repository/toolkit /\n",
        f"{folder}/b.sources": (
            f"enabled: yes\ntypes: deb\nuris: file:///repository/toolkit/\nsuites: /\nsigned-by: {theirs}\n"
            "\nTypes: deb\nURIs: file:/site/tools\nSuites: /\nTrusted: yes\n"
        ),
        # What an earlier run of another step has written.
        f"{folder}/beta9-nvidia.list": f"deb [signed-by={theirs}] file:///repository/toolkit /\n",
    }
    machine.write("/etc/apt/sources.list", "")
    for name, text in files.items():
        machine.write(name, text)
    result = machine.step("toolkit", **repositories.settings)
    assert result.code == 0, result.output
    assert machine.installed("nvidia-container-toolkit") == TOOLKIT
    update = machine.run("apt-get", "update")
    assert (update.returncode, update.stderr) == (0, "")
    assert "nftables" in machine.run("apt-cache", "madison", "nftables").stdout, (
        "the other stanza is not switched off"
    )

    machine.run("mkdir", "-p", "/run/systemd/system")
    undone = machine.run("bash", "/bootstrap/uninstall.sh")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert not machine.installed("nvidia-container-toolkit")
    for name, text in files.items():
        assert machine.read(name) == text
    assert not machine.path(f"{folder}/beta9-toolkit.list").exists()
    assert "Conflicting" not in machine.run("apt-get", "update").stderr
