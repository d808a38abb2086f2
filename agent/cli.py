"""The command line: which command, which settings, which exit code. Each command's own work is elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from agent import __version__
from agent.errors import AgentError, Exit, SettingsError
from agent.settings import add_arguments, describe, load, without_ignored

PROGRAM = "beta9-worker"
_COMMANDS = ("run", "authorize", "demo", "doctor", "status", "health")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what it returns is the process's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # The guide's flags work without naming a command: `python -m agent --token …` is `run`.
    if not words or (words[0] not in _COMMANDS and words[0] not in {"-h", "--help", "--version"}):
        words.insert(0, "run")
    args = _parser().parse_args(without_ignored(words))
    try:
        return int(args.function(args))
    except SettingsError as error:
        for problem in error.problems:
            print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return error.exit_code
    except AgentError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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


def _add_others(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from agent.commands import authorize, demo, doctor, health, status

    for command in (authorize, demo, doctor, health, status):
        command.add_parser(commands)


def _run(args: argparse.Namespace) -> int:
    settings = load(vars(args), os.environ)
    if settings.dry_run:
        import json

        print(json.dumps(describe(settings), indent=2, default=str))
        return Exit.OK
    from agent.start import start

    return start(settings, rejoin=args.rejoin)
