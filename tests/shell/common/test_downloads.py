"""boot.sh and the installer download alike: as often, within the same bounds, reading locations in the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import BOOT, Machine, tarball
from tests.shell.common.flaky_server import (
    HALF_AND_CLOSE,
    HALF_AND_RESET,
    HALF_AND_SILENCE,
    RESET,
    UNAVAILABLE,
    Server,
    serving,
)
from tests.shell.install.fakehost import Host

SIGNATURE = "sEcReT"
Fetch = Callable[..., tuple[int, str]]
"""Fetch a location, with further settings; return the exit code and all that is shown."""


def boot_fetch(tmp_path: Path) -> Fetch:
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin", tmp_path / "boot.sh")
    machine.script.write_text(impatient(BOOT.read_text()))

    def fetch(location: str, **settings: str) -> tuple[int, str]:
        machine.settings({"BETA9_SOURCE": location, **settings})
        done = machine.boot()
        record = machine.root / "var/lib/beta9-worker/bootstrap.json"
        return done.returncode, done.stdout + done.stderr + (record.read_text() if record.exists() else "")

    return fetch


def installer_fetch(tmp_path: Path) -> Fetch:
    host = Host(tmp_path)

    def fetch(location: str, **settings: str) -> tuple[int, str]:
        host.write_settings(BETA9_SOURCE=location, **settings)
        body = f"""eval "$(declare -f request | sed 's/{STALL}/{SHORT_STALL}/')"
        BETA9_RETRY_DELAY=0
        fetch "$(setting BETA9_SOURCE)" {host.root}/dest"""
        done = host.step(body)
        return done.returncode, done.stdout + done.stderr + host.console_text()

    return fetch


STALL, SHORT_STALL = "--speed-time 60", "--speed-time 2"


def impatient(text: str) -> str:
    assert STALL in text
    return text.replace(STALL, SHORT_STALL)


@pytest.fixture(params=[boot_fetch, installer_fetch])
def fetch(request: pytest.FixtureRequest, tmp_path: Path) -> Fetch:
    directory = tmp_path / "machine"
    directory.mkdir()
    made: Fetch = request.param(directory)
    return made


@pytest.fixture
def release(tmp_path: Path) -> Path:
    tarball(tmp_path / "b.tar.gz")
    return tmp_path / "b.tar.gz"


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("fault", [RESET, HALF_AND_RESET, HALF_AND_CLOSE, HALF_AND_SILENCE, UNAVAILABLE])
def test_what_failed_twice_is_had_at_the_third_attempt(fetch: Fetch, release: Path, fault: str) -> None:
    """Field cases 4.1, 4.2, 4.3."""
    with serving(Server(release.read_bytes(), [fault, fault])) as server:
        code, shown = fetch(f"{server.url}/b.tar.gz#sha256={checksum(release)}")
    assert code == 0, shown
    assert server.requests == ["/b.tar.gz"] * 3


def test_it_gives_up_and_shows_neither_a_signature_nor_a_password(fetch: Fetch, release: Path) -> None:
    """Field case 4.6: a location may be a bearer's ticket."""
    with serving(Server(release.read_bytes(), [RESET] * 6)) as server:
        location = f"{server.url.replace('//', f'//user:{SIGNATURE}@')}/b.tar.gz?X-Amz-Signature={SIGNATURE}"
        code, shown = fetch(f"{location}#sha256={checksum(release)}")
    assert code == 1
    assert len(server.requests) == 6
    assert SIGNATURE not in shown
    assert f"download {server.url}/b.tar.gz" in shown


@pytest.mark.parametrize(
    "location",
    [
        "{url}/b.tar.gz?X-Amz-Signature={secret}#sha256=" + "0" * 64,
        "{url}/b.tar.gz?sig={secret}#sha256=12",
        "{url}/b.tar.gz?sig={secret}",
        "{url}/b.tar.gz?sig={secret}#SHA256=" + "0" * 64,
        "{url}/b.tar.gz?sig={secret}#sha512=" + "0" * 128,
        "ftp://user:{secret}@127.0.0.1/b.tar.gz?sig={secret}#sha256=" + "0" * 64,
        "HTTPS://user:{secret}@127.0.0.1/b?sig={secret}#sha256=" + "0" * 64,
        "example.com/b.tar.gz?sig={secret}#sha256=" + "0" * 64,
    ],
)
def test_whatever_is_wrong_with_a_location_its_secrets_are_not_shown(
    fetch: Fetch, release: Path, location: str
) -> None:
    """Field case 4.6, in each of the messages."""
    with serving(Server(release.read_bytes(), [])) as server:
        code, shown = fetch(location.format(url=server.url, secret=SIGNATURE))
    assert code == 1
    assert SIGNATURE not in shown


def test_the_checksum_may_be_written_in_capitals(fetch: Fetch, release: Path) -> None:
    """Field case 4.4."""
    code, shown = fetch(f"{release}#sha256={checksum(release).upper()}")
    assert code == 0, shown


@pytest.mark.parametrize(
    "location",
    [
        "https://nowhere.invalid/x/b.tar.gz",
        "https://nowhere.invalid/x/b.tar.gz?sig=a/b",
        "https://user:password@nowhere.invalid/b.tar.gz?a#b",
        "http://nowhere.invalid/b.tar.gz?",
        "file:///not/here/b.tar.gz",
        "/not/here/b.tar.gz",
    ],
)
def test_a_file_of_its_name_replaces_a_location(fetch: Fetch, release: Path, location: str) -> None:
    """Field case 4.5: the name is what the URL's path ends in, without its query."""
    code, shown = fetch(f"{location}#sha256={checksum(release)}", BETA9_FILES_DIR=str(release.parent))
    assert code == 0, shown


def test_special_characters_reach_the_server_unchanged(fetch: Fetch, release: Path) -> None:
    """The URL travels to curl in a configuration file: nothing in it may end its quotes, or be a pattern."""
    with serving(Server(release.read_bytes(), [])) as server:
        code, shown = fetch(f"{server.url}/a{{b}}[1-3]$HOME;b.tar.gz#sha256={checksum(release)}")
    assert code == 0, shown
    assert server.requests == ["/a{b}[1-3]$HOME;b.tar.gz"]
