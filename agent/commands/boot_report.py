"""`beta9-worker boot-report`: where the time of a machine's bootstrap went, and what failed."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from agent.adapters.host.boot_record import NAME, read_file
from agent.core.host.boot_record import chart
from agent.errors import ExitCode

_DEFAULT = "/var/lib/beta9-worker"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "boot-report",
        help="show where the time of the last bootstrap went (exit 1 if it failed)",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    parser.add_argument("--file", metavar="FILE", help=f"[{NAME} in BETA9_STATE_DIR, else in {_DEFAULT}]")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Show it. Raises: SettingsError where there is nothing to show."""
    path = Path(args.file or Path(os.environ.get("BETA9_STATE_DIR") or _DEFAULT) / NAME)
    boot = read_file(path)
    if args.json:
        print(json.dumps({**asdict(boot), "seconds": boot.seconds, "sum_s": boot.sum_s}, indent=2))
    else:
        print("\n".join(chart(boot)))
    return ExitCode.FAILED_CHECK if boot.result == "failed" else ExitCode.OK
