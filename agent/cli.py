"""The command line: which command, which settings, which exit code. Each command's own work is elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from agent import __version__
from agent.core.text.describe import nearest, shape, shown
from agent.errors import AgentError, ExitCode, SettingsError
from agent.settings import add_arguments, describe, load, without_ignored
from agent.settings.fields import FIELDS

PROGRAM = "beta9-worker"
_COMMANDS = (
    "run",
    "authorize",
    "boot-report",
    "demo",
    "doctor",
    "health",
    "install",
    "leave",
    "push-secrets",
    "simulate-interruption",
    "status",
    "user-data",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what it returns is the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args, rest = _parser().parse_known_args(without_ignored(_with_command(words)))
        _refuse(rest)
        return int(args.function(args))
    except SettingsError as error:
        for problem in error.problems:
            print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return error.exit_code
    except AgentError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.OK


def _with_command(words: list[str]) -> list[str]:
    """The guide's flags work without naming a command: `python -m agent --token …` is `run`."""
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"}):
        return ["run", *words]
    if words[0] not in _COMMANDS and not words[0].startswith("-"):
        near = nearest(words[0], _COMMANDS)
        meant = f"did you mean {near}?" if near else f"there are {', '.join(_COMMANDS)}"
        raise SettingsError(f"{shown(words[0])} is no command; {meant}")
    return words


def _refuse(rest: list[str]) -> None:
    """Name the flags that nobody knows, and not what follows them: `--tokn` is followed by a secret."""
    flags = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if rest:
        known = [field.flag for field in FIELDS if field.flag]
        near = nearest(flags[0], known) if flags else None
        what = ", ".join(flags) if flags else shape(rest[0])
        hint = f"did you mean {near}?" if near else f"'{PROGRAM} COMMAND --help' shows what there is"
        raise SettingsError(f"{what}: not understood; {hint}")


class _Parser(argparse.ArgumentParser):
    """A wrong command line is a wrong setting: one message, and an exit code that nobody restarts after."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; '{self.prog} --help' shows what there is")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM, description="Make this machine a worker of a Beta9 cluster, by dialling out."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="join and stay (the default)", allow_abbrev=False)
    add_arguments(run)
    run.add_argument("--rejoin", action="store_true", help="come back although the machine was told to leave")
    run.set_defaults(function=_run)
    _add_others(commands)
    return parser


def _add_others(commands: argparse._SubParsersAction[Any]) -> None:
    from agent.commands import (
        authorize,
        boot_report,
        demo,
        doctor,
        health,
        install,
        leave,
        push_secrets,
        status,
        user_data,
    )

    before = (user_data, push_secrets, boot_report, authorize)
    for command in (*before, demo, doctor, install, leave, health, status):
        command.add_parser(commands)


def _run(args: argparse.Namespace) -> int:
    settings = load(vars(args), os.environ)
    if settings.dry_run:
        import json

        print(json.dumps(describe(settings), indent=2, default=str))
        return ExitCode.OK
    from agent.runtime.main import start

    return start(settings, rejoin=args.rejoin)
