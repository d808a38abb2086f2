"""The command line's flags for settings, declared from the table of fields."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent.settings.fields import FIELDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all flags of settings. None has a default or a type: `load` reads and checks the text."""
    group = parser.add_argument_group("settings", "each has a variable as well; see docs/settings.md")
    add_field_flags(group)
    group.add_argument("--env-file", metavar="FILE", help="read variables from this file instead of ./.env")
    group.add_argument("--debug", action="store_true", default=None, help="log at level debug")
    group.add_argument(
        "--once",
        action="store_true",
        default=None,
        help="register, send one keepalive, stop the tunnel, exit 0",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        default=None,
        help="show what is set, and from where; change nothing",
    )


def add_field_flags(group: argparse._ActionsContainer) -> None:
    """Declare the flags of those settings that have one."""
    for field in FIELDS:
        if field.flag:
            default = field.default or field.default_text
            text = f"{field.help} [{default}]".replace("%", "%%")
            group.add_argument(field.flag, dest=field.name, metavar="X", help=text)


def without_ignored(arguments: Sequence[str]) -> list[str]:
    """Leave out `--flux-*` flags and their values, which older `beta9 machine create` commands hold."""
    kept: list[str] = []
    drop_value = False
    for argument in arguments:
        if argument.startswith("--flux-"):
            drop_value = "=" not in argument
        elif drop_value and not argument.startswith("--"):
            drop_value = False
        else:
            drop_value = False
            kept.append(argument)
    return kept
