"""The command line as data: every command with its options, and what may follow each of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import Enum

from agent.settings.fields import known_variables

DEFAULT = "run"
"""The command that is meant where none is given."""


class Value(Enum):
    """What completes the value of an option that has no list of choices."""

    NONE = "none"
    """The option takes no value."""
    TEXT = "text"
    """Anything: there is nothing to propose."""
    FILE = "file"
    DIRECTORY = "directory"
    VARIABLE = "variable"
    """NAME=VALUE, with the name of a setting."""


@dataclass(frozen=True)
class Option:
    """An option, or an argument without a name."""

    names: tuple[str, ...]
    help: str
    value: Value
    metavar: str = ""
    choices: tuple[str, ...] = ()
    repeatable: bool = False


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    name: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Option, ...] = ()
    description: str = ""
    """What `--help` says above the options, if more than `help`."""
    epilog: str = ""


def commands(parser: argparse.ArgumentParser) -> tuple[Command, ...]:
    """Return every command of the parser, in the order of its `--help`."""
    group = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    helps = {each.dest: each.help or "" for each in group._choices_actions}
    return tuple(_command(name, helps[name], each) for name, each in group.choices.items())


def global_options(parser: argparse.ArgumentParser) -> tuple[Option, ...]:
    """Return the options that stand in place of a command."""
    return tuple(_option(each, parser) for each in parser._actions if each.option_strings)


def variables() -> tuple[str, ...]:
    """Return the names of all settings, as NAME=VALUE takes them."""
    return known_variables()


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> Command:
    return Command(
        name,
        text,
        tuple(_option(each, parser) for each in parser._actions if each.option_strings),
        tuple(_option(each, parser) for each in parser._actions if not each.option_strings),
        parser.description or "",
        parser.epilog or "",
    )


def _option(action: argparse.Action, parser: argparse.ArgumentParser) -> Option:
    metavar = str(action.metavar or "")
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return Option(
        tuple(action.option_strings),
        text,
        _value(action, metavar),
        metavar,
        tuple(str(each) for each in action.choices or ()),
        isinstance(action, argparse._AppendAction),
    )


def _value(action: argparse.Action, metavar: str) -> Value:
    if action.nargs == 0:
        return Value.NONE
    if metavar == "NAME=VALUE":
        return Value.VARIABLE
    ends = {"FILE": Value.FILE, "DIR": Value.DIRECTORY}
    return ends.get(metavar.rpartition("_")[2], Value.TEXT)
