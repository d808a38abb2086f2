"""A release names itself in what `beta9-worker user-data` prints; a checkout between releases names nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agent import cli
from agent.commands import user_data
from agent.provisioning.templates import Templates, read_templates

SUM = "#sha256=" + 64 * "a"
SOURCE = f"https://example.com/v1.2.3/beta9-worker-1.2.3.tar.gz{SUM}"
IMAGE = f"ghcr.io/example/beta9-worker@sha256:{64 * 'b'}"
WORDS = [
    "user-data",
    "--pool-name",
    "gpu",
    "--set",
    "BETA9_CONNECTION=direct",
    "--set",
    "BETA9_TOKEN=ssm:///t",
]


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Templates:
    text = f"# a release\nBETA9_AGENT_IMAGE={IMAGE}\nBETA9_SOURCE={SOURCE}\n"
    templates = dataclasses.replace(read_templates(), release=text)
    monkeypatch.setattr(user_data, "read_templates", lambda: templates)
    return templates


def lines(out: str) -> list[str]:
    return [line.strip() for line in out.splitlines() if line.strip().startswith("BETA9_")]


def test_a_release_is_named_by_image_and_source(
    released: Templates, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(WORDS) == 0
    found = lines(capsysbinary.readouterr().out.decode())
    assert f"BETA9_SOURCE={SOURCE}" in found
    assert f"BETA9_AGENT_IMAGE={IMAGE}" in found


@pytest.mark.parametrize(
    "own", ["BETA9_SOURCE=/opt/mine.tar.gz" + SUM, f"BETA9_AGENT_IMAGE=mine@sha256:{64 * 'c'}"]
)
def test_who_chooses_an_origin_gets_nothing_of_the_release(
    own: str, released: Templates, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main([*WORDS, "--set", own]) == 0
    found = lines(capsysbinary.readouterr().out.decode())
    assert [line for line in found if line.startswith(("BETA9_SOURCE=", "BETA9_AGENT_IMAGE="))] == [own]


def test_between_releases_somebody_has_to_choose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    templates = dataclasses.replace(read_templates(), release="# none\n")
    monkeypatch.setattr(user_data, "read_templates", lambda: templates)
    assert cli.main(WORDS) == 78
    assert "nothing says where the machine gets bootstrap and agent" in capsys.readouterr().err


def test_the_file_that_is_here_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "cloud-init/release.env").read_text()
    assert read_templates().release == text
