"""A private object in S3, which boot.sh and the installer fetch alike, with the role of their machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.shell.boot.boot_machine import Machine, tarball
from tests.shell.common.s3_standin import KEY, REGION, S3, SECRET, TOKEN, serving_s3
from tests.shell.install.fakehost import Host

Fetch = Callable[[str, S3], tuple[int, str]]
"""Fetch a location; return the exit code, and all that is shown or was given to a program as an argument."""
CURL = """#!/bin/bash
printf '%s\\n' "$*" >>"{log}"
exec /usr/bin/curl "$@"
"""


def boot_fetch(tmp_path: Path) -> Fetch:
    (tmp_path / "root").mkdir()
    machine = Machine(tmp_path / "root", tmp_path / "bin")
    log = spied(tmp_path / "bin")

    def fetch(location: str, s3: S3) -> tuple[int, str]:
        machine.settings({"BETA9_SOURCE": location, "BETA9_METADATA_ENDPOINT": s3.metadata.url})
        done = machine.boot(AWS_ENDPOINT_URL_S3=s3.url)
        record = machine.root / "var/lib/beta9-worker/bootstrap.json"
        shown = done.stdout + done.stderr + (record.read_text() if record.exists() else "")
        return done.returncode, shown + (log.read_text() if log.exists() else "")

    return fetch


def installer_fetch(tmp_path: Path) -> Fetch:
    host = Host(tmp_path)
    log = spied(host.bin)

    def fetch(location: str, s3: S3) -> tuple[int, str]:
        host.write_settings(BETA9_SOURCE=location, BETA9_METADATA_ENDPOINT=s3.metadata.url)
        done = host.step(f"""export AWS_ENDPOINT_URL_S3={s3.url} BETA9_RETRY_DELAY=0
        fetch "$(setting BETA9_SOURCE)" {host.root}/dest""")
        shown = done.stdout + done.stderr + host.console_text()
        return done.returncode, shown + (log.read_text() if log.exists() else "")

    return fetch


def spied(directory: Path) -> Path:
    log = directory / "curl.log"
    (directory / "curl").write_text(CURL.format(log=log))
    (directory / "curl").chmod(0o755)
    return log


@pytest.fixture(params=[boot_fetch, installer_fetch])
def fetch(request: pytest.FixtureRequest, tmp_path: Path) -> Fetch:
    directory = tmp_path / "machine"
    directory.mkdir()
    made: Fetch = request.param(directory)
    return made


@pytest.fixture
def s3() -> Iterator[S3]:
    with serving_s3() as running:
        yield running


@pytest.fixture
def release(tmp_path: Path) -> bytes:
    tarball(tmp_path / "release.tar.gz")
    return (tmp_path / "release.tar.gz").read_bytes()


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LOCATIONS = {
    "s3://beta9-gpu-src-1/0123/x.tar.gz": ("/beta9-gpu-src-1/0123/x.tar.gz", REGION),
    "s3://my.bucket/a~b+(1).tar.gz": ("/my.bucket/a~b%2B%281%29.tar.gz", REGION),
    "s3://elsewhere/x.tar.gz?region=us-east-1": ("/elsewhere/x.tar.gz", "us-east-1"),
}


@pytest.mark.parametrize("name", LOCATIONS)
def test_an_object_that_the_role_may_read_is_fetched(name: str, fetch: Fetch, s3: S3, release: bytes) -> None:
    """One apply from a clone. Neither secret nor token nor signature is an argument of a program, or shown."""
    path, region = LOCATIONS[name]
    s3.objects[path], s3.region = release, region
    code, shown = fetch(f"{name}#sha256={checksum(release)}", s3)
    assert code == 0, shown
    assert s3.answers == [(path, 200)]
    for secret in (SECRET, TOKEN, "sEcReT", "tOkEn", KEY, "X-Amz"):
        assert secret not in shown


def test_a_role_that_is_not_yet_known_everywhere_is_waited_for(fetch: Fetch, s3: S3, release: bytes) -> None:
    s3.objects["/b-1/x"], s3.denied = release, 2
    code, shown = fetch(f"s3://b-1/x#sha256={checksum(release)}", s3)
    assert code == 0, shown
    assert [status for _, status in s3.answers] == [403, 403, 200]


def test_an_object_that_the_role_may_not_read_is_named(fetch: Fetch, s3: S3, release: bytes) -> None:
    s3.region = "us-east-1"
    code, shown = fetch(f"s3://b-1/x?region={REGION}#sha256={checksum(release)}", s3)
    assert code != 0
    assert "s3://b-1/x" in shown
    assert "403" in shown
    assert {status for _, status in s3.answers} == {403}


@pytest.mark.parametrize("lost", ["iam/security-credentials/", "placement/region"])
def test_a_machine_without_a_role_says_so(lost: str, fetch: Fetch, s3: S3, release: bytes) -> None:
    del s3.metadata.documents[lost]
    code, shown = fetch(f"s3://b-1/x#sha256={checksum(release)}", s3)
    assert code != 0
    assert "s3: no role of an EC2 instance to sign with" in shown
    assert s3.answers == []


def test_another_object_than_expected_is_refused(fetch: Fetch, s3: S3, release: bytes) -> None:
    s3.objects["/b-1/x"] = release + b"?"
    code, shown = fetch(f"s3://b-1/x#sha256={checksum(release)}", s3)
    assert code != 0
    assert "checksum" in shown
