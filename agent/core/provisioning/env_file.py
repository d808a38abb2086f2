"""The text of worker.env: lines that no shell expands, byte for byte the same as from Terraform."""

from __future__ import annotations

import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_./:@,+=#%-]+")


def value_problem(value: str) -> str | None:
    """Return why worker.env cannot contain a value ("contains …"), or None. Never quotes the value."""
    for character in ("'", "\\"):  # parsers of such files treat a backslash in quotes as an escape
        if character in value:
            return (
                f"contains a {character}, which worker.env cannot represent; put the text into a file on the machine"
                " and give its path"
            )
    if any(not character.isprintable() and character != "\n" for character in value):
        return "contains a control character, which worker.env cannot represent; remove it"
    return None


def env_lines(settings: Mapping[str, str]) -> list[str]:
    """Return the lines, sorted by name, without empty values. A value may span several lines.

    Raises: ValueError that names the setting, for a value that worker.env cannot represent.
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
