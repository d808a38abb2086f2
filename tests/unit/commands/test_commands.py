"""Every command that the command line offers has a function."""

from __future__ import annotations

import argparse

import pytest

from agent.cli import _COMMANDS, build_parser

REQUIRED: dict[str, list[str]] = {
    "authorize": ["--pool-key", "-"],
    "completion": ["bash"],
    "push-secrets": ["root@host"],
}
"""Arguments that a command requires."""


def declared() -> set[str]:
    groups = (each for each in build_parser()._actions if isinstance(each, argparse._SubParsersAction))
    return {name for group in groups for name in group.choices}


def test_the_names_are_those_that_are_declared() -> None:
    assert set(_COMMANDS) == declared()


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_command_has_a_function(command: str) -> None:
    args, rest = build_parser().parse_known_args([command, *REQUIRED.get(command, [])])
    assert rest == []
    assert callable(args.function)
