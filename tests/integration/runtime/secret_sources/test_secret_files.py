"""Secrets given as values and in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.adapters.secrets.resolver import Secrets
from agent.errors import SettingsError
from agent.settings import SecretRef
from tests.integration.runtime.secret_sources.toy_aws import TOKEN


def test_a_value_is_carried_unchanged() -> None:
    odd = "q'uo\"te$(x)`\\; &|" + "x" * 10_240
    assert Secrets().resolve(SecretRef("BETA9_TOKEN", value=odd)) == odd


def test_a_file_is_read_anew_each_time_and_its_line_end_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    ref = SecretRef("BETA9_TOKEN", file=file)
    secrets = Secrets()
    assert secrets.resolve(ref) == TOKEN
    file.write_text("rotated\r\n")
    assert secrets.resolve(ref) == "rotated"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.exists, "No such file"),
        (lambda file: file.mkdir(), "not a regular file"),
        (lambda file: file.write_text(" \n"), "is empty"),
        (lambda file: file.write_text("x" * 70_000), "more than a secret may have"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "not UTF-8 text"),
        (lambda file: file.write_text("two\nlines"), "line break"),
    ],
)
def test_a_file_that_cannot_serve_is_named_with_the_reason(make: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    make(file)
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(SecretRef("BETA9_TOKEN", file=file))
    assert "BETA9_TOKEN" in str(caught.value)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_every_secret_is_learned_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two\nlines")
    learned: list[str] = []
    with pytest.raises(SettingsError):
        Secrets(learned=learned.append).resolve(SecretRef("BETA9_TOKEN", file=tmp_path / "token"))
    assert learned == ["two\nlines"]
