"""User data printed by a release names that release; a checkout between releases names none."""

from __future__ import annotations

import dataclasses

import pytest

from agent import cli
from agent.commands import user_data
from agent.provisioning.templates import Templates, read_templates
from tests.unit.provisioning.user_data_cases import CLOUD_INIT

SUM = "#sha256=" + 64 * "a"
SOURCE = f"https://example.com/v1.2.3/beta9-worker-1.2.3.tar.gz{SUM}"
IMAGE = f"ghcr.io/example/beta9-worker@sha256:{64 * 'b'}"
ARGUMENTS = [
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


def settings_in(out: str) -> list[str]:
    return [line.strip() for line in out.splitlines() if line.strip().startswith("BETA9_")]


def test_a_release_is_named_by_image_and_source(
    released: Templates, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(ARGUMENTS) == 0
    found = settings_in(capsysbinary.readouterr().out.decode())
    assert f"BETA9_SOURCE={SOURCE}" in found
    assert f"BETA9_AGENT_IMAGE={IMAGE}" in found


@pytest.mark.parametrize(
    "own", ["BETA9_SOURCE=/opt/mine.tar.gz" + SUM, f"BETA9_AGENT_IMAGE=mine@sha256:{64 * 'c'}"]
)
def test_who_chooses_an_origin_gets_nothing_of_the_release(
    own: str, released: Templates, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main([*ARGUMENTS, "--set", own]) == 0
    found = settings_in(capsysbinary.readouterr().out.decode())
    assert [line for line in found if line.startswith(("BETA9_SOURCE=", "BETA9_AGENT_IMAGE="))] == [own]


def test_between_releases_somebody_has_to_choose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    templates = dataclasses.replace(read_templates(), release="# none\n")
    monkeypatch.setattr(user_data, "read_templates", lambda: templates)
    assert cli.main(ARGUMENTS) == 78
    assert "so the machine cannot get the bootstrap and the agent" in capsys.readouterr().err


def test_the_file_that_is_here_can_be_read() -> None:
    text = (CLOUD_INIT / "release.env").read_text()
    assert read_templates().release == text
