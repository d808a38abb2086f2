"""`beta9-worker leave` and `beta9-worker simulate-interruption`: tell the running agent, on this machine."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from agent.errors import ExitCode, SettingsError

DEFAULT_STATE_DIR = "/var/lib/beta9-worker"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare both commands."""
    leave = commands.add_parser(
        "leave", help="drain, stop, and stay away until 'beta9-worker run --rejoin'", allow_abbrev=False
    )
    leave.add_argument(
        "--when-idle",
        action="store_true",
        help="take no new work, and wait until the last worker has ended by itself",
    )
    leave.set_defaults(function=run)
    drill = commands.add_parser(
        "simulate-interruption",
        help="a drill on the live machine: what a cloud's notice would do",
        allow_abbrev=False,
    )
    drill.add_argument("--in", dest="in_s", default="120s", metavar="TIME", help="as 120s or 2m [120s]")
    drill.add_argument("--kind", choices=("terminate", "rebalance"), default="terminate")
    drill.set_defaults(function=simulate)
    for parser in (leave, drill):
        parser.add_argument("--state-dir", help=f"the agent's [BETA9_STATE_DIR, else {DEFAULT_STATE_DIR}]")


def run(args: argparse.Namespace) -> int:
    """Tell it to go; where none runs, see to it that none comes."""
    from agent.adapters.storage.state_dir import StateDir

    path = _state_dir(args)
    told = _tell(path, {"command": "leave", "when_idle": bool(args.when_idle)})
    if told is not None:
        print(f"The agent {told}.")
        return ExitCode.OK
    state = StateDir.open(path)
    if state.try_lock() is not None:
        print(
            "An agent runs and does not answer; 'systemctl stop beta9-worker' ends it in order.",
            file=sys.stderr,
        )
        return ExitCode.FAILED_CHECK
    state.write_stop("told to leave", "", time.time())
    state.unlock()
    print("No agent runs here; none will come back before 'beta9-worker run --rejoin'.")
    return ExitCode.OK


def simulate(args: argparse.Namespace) -> int:
    """Tell it what a cloud would."""
    wish = {"command": "simulate-interruption", "kind": args.kind, "in_s": _seconds(args.in_s)}
    path = _state_dir(args)
    told = _tell(path, wish)
    if told is None:
        print(f"No agent answers in {path}; is it running? 'beta9-worker status'", file=sys.stderr)
        return ExitCode.FAILED_CHECK
    print(f"The agent {told}.")
    if args.kind == "terminate":
        print("Afterwards it stays away, as after a real notice: 'beta9-worker run --rejoin' brings it back.")
    return ExitCode.OK


def _tell(state_dir: Path, wish: dict[str, Any]) -> str | None:
    """The running agent's answer, None where none listens. Raises: TransientError where it refuses."""
    from agent.adapters.local_api.control_socket import NAME, ask
    from agent.adapters.storage.state_dir import StateDir

    if not state_dir.is_dir():
        return None
    try:
        return ask(StateDir(state_dir).run_dir() / NAME, wish)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError as error:
        raise SettingsError(
            f"{error.filename or state_dir} may not be used: run as the agent's user (root)"
        ) from error


def _state_dir(args: argparse.Namespace) -> Path:
    return Path(args.state_dir or os.environ.get("BETA9_STATE_DIR") or DEFAULT_STATE_DIR)


def _seconds(text: str) -> float:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--in {text!r} is no time; write 120s, or 2m")
    return float(found[1]) * _UNITS[found[2]]
