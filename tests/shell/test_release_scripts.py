"""The scripts that write a release's pins, on a copy of the files they change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

DIGEST = "sha256:" + 64 * "a"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "cloud-init").mkdir()
    shutil.copy(ROOT / "cloud-init/release.env", tmp_path / "cloud-init")
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE_IMAGE=debian:bookworm-slim\nARG BUILD_IMAGE=${BASE_IMAGE}\nFROM ${BASE_IMAGE}\n"
    )
    return tmp_path


def run(script: str, *words: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / script, *words],
        env={**os.environ, "BETA9_CHECKOUT": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_digest_of_the_base_image_is_written_in_one_place_and_replaced_there(checkout: Path) -> None:
    for digest in ("sha256:" + 64 * "b", DIGEST):
        assert run("pin_base.sh", digest, checkout=checkout).returncode == 0
    text = (checkout / "Dockerfile").read_text()
    assert text.splitlines()[0] == f"ARG BASE_IMAGE=debian:bookworm-slim@{DIGEST}"
    assert text.count("sha256:") == 1
    assert run("pin_base.sh", "--name", checkout=checkout).stdout == "debian:bookworm-slim\n"


@pytest.mark.parametrize("digest", ["sha256:abc", "sha512:" + 64 * "a", "", f"{DIGEST} x"])
def test_an_invalid_digest_is_refused_and_nothing_is_written(digest: str, checkout: Path) -> None:
    before = (checkout / "Dockerfile").read_text()
    done = run("pin_base.sh", digest, checkout=checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("pin_base.sh: ")
    assert (checkout / "Dockerfile").read_text() == before


def test_the_real_dockerfile_names_a_base_image() -> None:
    assert run("pin_base.sh", "--name", checkout=ROOT).stdout.startswith("debian:")


def test_a_release_names_its_image_and_its_tarball_with_checksum(checkout: Path) -> None:
    tarball = checkout / "beta9-worker-1.2.3.tar.gz"
    tarball.write_bytes(b"a release")
    url = f"https://example.com/v1.2.3/{tarball.name}"
    for image in (
        f"ghcr.io/example/beta9-worker@sha256:{64 * 'b'}",
        f"ghcr.io/example/beta9-worker@{DIGEST}",
    ):
        done = run("release_env.sh", image, url, str(tarball), checkout=checkout)
        assert done.returncode == 0, done.stderr
    lines = (checkout / "cloud-init/release.env").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"BETA9_AGENT_IMAGE=ghcr.io/example/beta9-worker@{DIGEST}",
        f"BETA9_SOURCE={url}#sha256={hashlib.sha256(b'a release').hexdigest()}",
    ]


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("ghcr.io/example/beta9-worker:1.2.3", "https://example.com/x.tar.gz"),
        (f"ghcr.io/example/beta9-worker@{DIGEST}", "https://example.com/another.tar.gz"),
        (f"ghcr.io/example/beta9-worker@{DIGEST}", "http://example.com/x.tar.gz"),
    ],
)
def test_a_release_without_a_digest_or_https_is_refused(image: str, url: str, checkout: Path) -> None:
    tarball = checkout / "x.tar.gz"
    tarball.write_bytes(b"a release")
    before = (checkout / "cloud-init/release.env").read_text()
    assert run("release_env.sh", image, url, str(tarball), checkout=checkout).returncode == 1
    assert (checkout / "cloud-init/release.env").read_text() == before
