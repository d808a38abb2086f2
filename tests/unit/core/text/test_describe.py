"""Descriptions of values: their shape, never a secret's own characters."""

from __future__ import annotations

import pytest

from agent.core.text.describe import nearest, shape, shown, token_problem


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("", "an empty text"),
        ("secret", "text of 6 characters"),
        ("two\nlines", "text of 9 characters with a line break"),
        (" padded ", "text of 8 characters with blanks at its ends"),
    ],
)
def test_a_shape_says_what_is_odd_and_not_what_it_is(text: str, described: str) -> None:
    assert shape(text) == described


def test_a_short_value_is_quoted_and_what_may_be_a_secret_is_not() -> None:
    assert shown("gpu-pool") == "'gpu-pool'"
    assert "eyJ" not in shown("eyJ" + "a" * 85)
    assert "KEY" not in shown("-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize(
    ("token", "begins"),
    [
        ("", "is empty"),
        ("a\nb", "holds a line break"),
        ("a\x00b", "holds control characters"),
        ("a\u2028b", "holds characters outside ISO 8859-1"),
    ],
)
def test_what_a_header_cannot_carry_is_named(token: str, begins: str) -> None:
    problem = token_problem(token)
    assert problem is not None
    assert problem.startswith(begins)


def test_a_good_token_has_no_problem() -> None:
    assert token_problem("dGhpcyBpcyBhIHRva2Vu==") is None


def test_the_nearest_name_is_offered_only_when_it_is_near() -> None:
    assert nearest("statsu", ["status", "doctor"]) == "status"
    assert nearest("xyz", ["status", "doctor"]) is None
