"""Command-line flags for settings, declared from the table of settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agent.settings.fields import FIELDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of all settings. None has a default or a type: `load` parses and checks the text."""
    group = parser.add_argument_group("settings", "each can also be set by a variable; see docs/settings.md")
    add_field_flags(group)
    group.add_argument("--env-file", metavar="FILE", help="read variables from this file instead of ./.env")
    group.add_argument("--debug", action="store_true", default=None, help="set the log level to debug")
    group.add_argument(
        "--once",
        action="store_true",
        default=None,
        help="register, send one keepalive, close the tunnel and exit",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        default=None,
        help="show every setting and its source; change nothing",
    )


def add_field_flags(group: argparse._ActionsContainer) -> None:
    """Declare a flag for each setting that has one."""
    for field in FIELDS:
        if field.flag:
            default = field.default or field.default_text
            text = f"{field.help} [{default}]" if default else field.help
            group.add_argument(field.flag, dest=field.name, metavar="X", help=text.replace("%", "%%"))


def without_ignored(arguments: Sequence[str]) -> list[str]:
    """Drop `--flux-*` flags and their values, which older versions of `beta9 machine create` print."""
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
