"""What describes one setting: its names, its parser, its default and its documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.settings import parsers


@dataclass(frozen=True, eq=False)
class Field:
    """One setting. `default` is text as a user would write it, and goes through the same parser."""

    name: str
    """The attribute of Settings, and the flag's destination in argparse."""
    variable: str
    """The environment variable."""
    help: str
    parse: Callable[[str], object] = parsers.text
    default: str | None = None
    flag: str | None = None
    secret: bool = False
    """Only the owner should be able to read its file. (Values of `file_variant` fields are never shown.)"""
    file_variant: bool = False
    """`<VARIABLE>_FILE` may name a file instead, and the value may be a reference to a secret store."""
    required: bool = False
    may_be_empty: bool = True
    """An empty value counts as not set, as compose files pass them; False where that would hide a mistake."""
    default_text: str | None = None
    """What the documentation shows where the default is not a fixed value."""
