"""`beta9-worker boot-report`: how long each stage of the bootstrap took, and what failed."""

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
    """Add the command's parser."""
    parser = commands.add_parser(
        "boot-report",
        help="show how long each stage of the last bootstrap took (exit code 1 if it failed)",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--file", metavar="FILE", help=f"the record to read [{NAME} in BETA9_STATE_DIR, or in {_DEFAULT}]"
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print the report. Raises: SettingsError if there is no record of a bootstrap."""
    path = Path(args.file or Path(os.environ.get("BETA9_STATE_DIR") or _DEFAULT) / NAME)
    boot = read_file(path)
    if args.json:
        print(json.dumps({**asdict(boot), "seconds": boot.seconds, "sum_s": boot.sum_s}, indent=2))
    else:
        print("\n".join(chart(boot)))
    return ExitCode.FAILED_CHECK if boot.result == "failed" else ExitCode.OK
