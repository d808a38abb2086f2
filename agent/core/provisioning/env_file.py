"""The text of worker.env: settings as lines that no shell expands, the same from every renderer, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_./:@,+=#%-]+")


def value_problem(value: str) -> str | None:
    """Say why worker.env cannot carry a value, or None. The answer completes a sentence, without the value."""
    for sign in ("'", "\\"):  # readers of such files take a backslash in quotes for an escape
        if sign in value:
            return f"holds a {sign} and worker.env cannot carry one; put the text into a file there and name that"
    if any(not character.isprintable() and character != "\n" for character in value):
        return "holds a control character and worker.env cannot carry one; take it out"
    return None


def env_lines(settings: Mapping[str, str]) -> list[str]:
    """The lines, by name; an empty value is left out. A value may go over several lines.

    Raises: ValueError for a value that worker.env cannot carry, by its name.
    """
    lines: list[str] = []
    for name in sorted(settings):
        value = settings[name]
        problem = value_problem(value)
        if problem:
            raise ValueError(f"{name}: {problem}")
        if value:
            quoted = value if _BARE.fullmatch(value) else f"'{value}'"
            lines += f"{name}={quoted}".split("\n")
    return lines
