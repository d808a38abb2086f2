"""`beta9-worker leave` and `beta9-worker simulate-interruption`: requests to the agent on this machine."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from agent.errors import ExitCode, SettingsError

DEFAULT_STATE_DIR = "/var/lib/beta9-worker"
METADATA_TIMEOUT_S = 2.0
GOES_ON = (
    "The machine itself goes on running, and in a cloud costing, also as a member of an Auto Scaling group: shut it "
    "down or terminate it when you no longer need it."
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers of both commands."""
    leave = commands.add_parser(
        "leave",
        help="drain, stop, and do not join again before 'beta9-worker run --rejoin'",
        allow_abbrev=False,
    )
    leave.add_argument(
        "--when-idle",
        action="store_true",
        help="accept no new work, and wait until the last worker has finished by itself",
    )
    leave.set_defaults(function=run)
    drill = commands.add_parser(
        "simulate-interruption",
        help="act as if the cloud had announced an interruption (a drill on the live machine)",
        allow_abbrev=False,
    )
    drill.add_argument(
        "--in",
        dest="in_s",
        default="120s",
        metavar="TIME",
        help="time until the interruption, such as 120s or 2m [120s]",
    )
    drill.add_argument(
        "--kind", choices=("terminate", "rebalance"), default="terminate", help="kind of notice [terminate]"
    )
    drill.set_defaults(function=simulate)
    for parser in (leave, drill):
        parser.add_argument(
            "--state-dir",
            metavar="DIR",
            help=f"the agent's state directory [BETA9_STATE_DIR, or {DEFAULT_STATE_DIR}]",
        )


def run(args: argparse.Namespace) -> int:
    """Ask the agent to leave. If none is running, write the stop marker that keeps one from joining."""
    from agent.adapters.host.hardware_ids import read_hardware
    from agent.adapters.storage.state_dir import StateDir

    path = _state_dir(args)
    reply = _ask(path, {"command": "leave", "when_idle": bool(args.when_idle)})
    if reply is not None:
        print(f"The agent {reply}.\n{GOES_ON}")
        return ExitCode.OK
    state = StateDir.open(path)
    if state.try_lock() is not None:
        print(
            "An agent is running but does not answer; 'systemctl stop beta9-worker' stops it after a drain.",
            file=sys.stderr,
        )
        return ExitCode.FAILED_CHECK
    state.write_stop("told to leave", _instance_id(), time.time(), read_hardware())
    state.unlock()
    print(f"No agent is running; none will join before '{_rejoin(args)}'.\n{GOES_ON}")
    return ExitCode.OK


def simulate(args: argparse.Namespace) -> int:
    """Send the agent an interruption notice, as from a cloud."""
    request = {"command": "simulate-interruption", "kind": args.kind, "in_s": _seconds(args.in_s)}
    path = _state_dir(args)
    reply = _ask(path, request)
    if reply is None:
        print(f"No agent answers in {path}; is it running? See 'beta9-worker status'.", file=sys.stderr)
        return ExitCode.FAILED_CHECK
    print(f"The agent {reply}.")
    if args.kind == "terminate":
        print(f"It will not join again by itself, as after a real notice; use '{_rejoin(args)}'.")
    return ExitCode.OK


def _ask(state_dir: Path, request: dict[str, Any]) -> str | None:
    """Return the running agent's reply, or None if none is listening. Raises: TransientError if it refuses."""
    from agent.adapters.local_api.control_socket import NAME, ask
    from agent.adapters.storage.state_dir import StateDir

    if not state_dir.is_dir():
        return None
    try:
        return ask(StateDir(state_dir).run_dir() / NAME, request)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError as error:
        raise SettingsError(
            f"{error.filename or state_dir} is not accessible: run this as the agent's user (root)"
        ) from error


def _instance_id() -> str:
    """Return the cloud's id of this machine, "" outside a cloud."""
    from agent.adapters.aws import imds

    endpoint = os.environ.get("BETA9_METADATA_ENDPOINT") or imds.DEFAULT_ENDPOINT
    return imds.instance_id(endpoint, METADATA_TIMEOUT_S) or ""


def _state_dir(args: argparse.Namespace) -> Path:
    return Path(args.state_dir or os.environ.get("BETA9_STATE_DIR") or DEFAULT_STATE_DIR)


def _rejoin(args: argparse.Namespace) -> str:
    """Return the command that undoes this one, in the same state directory: `run` has no flag for it."""
    where = f"BETA9_STATE_DIR={shlex.quote(args.state_dir)} " if args.state_dir else ""
    return f"{where}beta9-worker run --rejoin"


def _seconds(text: str) -> float:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--in {text!r} is not a time; write, for example, 120s or 2m")
    return float(found[1]) * _UNITS[found[2]]
