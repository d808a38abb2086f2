"""The command line: parse arguments, run the command, and turn errors into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from agent import __version__
from agent.core.text.describe import nearest, shape, shown
from agent.errors import AgentError, ExitCode, SettingsError
from agent.settings import Settings, add_arguments, describe, load, without_ignored
from agent.settings.fields import FIELDS

PROGRAM = "beta9-worker"
_COMMANDS = (
    "run",
    "authorize",
    "boot-report",
    "completion",
    "demo",
    "doctor",
    "health",
    "install",
    "leave",
    "push-secrets",
    "relay",
    "simulate-interruption",
    "status",
    "user-data",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args, unknown = build_parser().parse_known_args(without_ignored(_with_command(words)))
        _reject(unknown)
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
    """Insert the default command, so that `python -m agent --token …` means `run`, as Beta9's guide has it."""
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"}):
        return ["run", *words]
    if words[0] not in _COMMANDS and not words[0].startswith("-"):
        near = nearest(words[0], _COMMANDS)
        hint = f"did you mean {near}?" if near else f"choose from {', '.join(_COMMANDS)}"
        raise SettingsError(f"unknown command {shown(words[0])}; {hint}")
    return words


def _reject(unknown: list[str]) -> None:
    """Raise SettingsError for unknown arguments. Shows no values: `--tokn` is followed by a secret."""
    flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
    if unknown:
        known = [field.flag for field in FIELDS if field.flag]
        near = nearest(flags[0], known) if flags else None
        shown_arguments = ", ".join(flags) if flags else shape(unknown[0])
        hint = f"did you mean {near}?" if near else f"'{PROGRAM} COMMAND --help' lists the arguments"
        raise SettingsError(f"unrecognized arguments: {shown_arguments}; {hint}")


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as a SettingsError, whose exit code keeps service managers from restarting."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see '{self.prog} --help'")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog=PROGRAM,
        description="Turn this machine into a worker of your Beta9 cluster, with outgoing connections only.",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="join the cluster and stay connected (the default)", allow_abbrev=False
    )
    add_arguments(run)
    run.add_argument(
        "--rejoin", action="store_true", help="join again after 'beta9-worker leave' or an interruption"
    )
    run.set_defaults(function=_run)
    _add_others(commands)
    return parser


def _add_others(commands: argparse._SubParsersAction[Any]) -> None:
    from agent.commands import (
        authorize,
        boot_report,
        completion,
        demo,
        doctor,
        health,
        install,
        leave,
        push_secrets,
        relay,
        status,
        user_data,
    )

    before = (user_data, push_secrets, boot_report, authorize, relay)
    for command in (*before, demo, doctor, install, leave, health, status, completion):
        command.add_parser(commands)


def _run(args: argparse.Namespace) -> int:
    settings = load(vars(args), os.environ)
    if settings.dry_run:
        import json

        _check_key(settings)
        for warning in settings.warnings:
            print(f"beta9-worker: {warning}", file=sys.stderr)
        print(json.dumps(describe(settings), indent=2, default=str))
        return ExitCode.OK
    from agent.runtime.main import start

    os.environ.update(settings.proxies)
    return start(settings, rejoin=args.rejoin)


def _check_key(settings: Settings) -> None:
    """Check the SSH key as a start would, unless it is a reference. Raises: SettingsError, TransientError."""
    if settings.ssh_key is None or settings.ssh_key.reference:
        return
    from agent.adapters.secrets.resolver import Secrets
    from agent.adapters.ssh.private_key import check_private_key

    check_private_key(Secrets().resolve(settings.ssh_key), settings.ssh_key.file)
