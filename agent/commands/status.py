"""`beta9-worker status`: show the status of the running agent, once or continuously."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import TYPE_CHECKING

from agent.commands.health import add_address
from agent.errors import ExitCode

if TYPE_CHECKING:
    from agent.adapters.local_api.status_client import Reply

TERMINAL_S = 1.0
PIPE_S = 5.0
"""Default intervals of `--watch`: quick enough for a reader, slow enough for a log."""
TIMEOUT_S = 5.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("status", help="show the status of the running agent")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--watch", action="store_true", help="update until Ctrl-C; in a pipe, print one block after another"
    )
    parser.add_argument(
        "--every",
        type=_seconds,
        metavar="SECONDS",
        help=f"interval of --watch [{TERMINAL_S:g}; in a pipe {PIPE_S:g}]",
    )
    add_address(parser)
    parser.set_defaults(function=run)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 3600 seconds")
    return value


def run(args: argparse.Namespace) -> int:
    """Print the status."""
    if args.watch:
        try:
            return _watch(args)
        except BrokenPipeError:
            # The reader has closed the pipe. Python flushes stdout at exit, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.OK
    reply = _ask(args)
    if reply.problem:
        print(f"status: {reply.problem}", file=sys.stderr)
        return ExitCode.FAILED_CHECK
    print(json.dumps(reply.body, indent=2) if args.json else "\n".join(_block(reply, as_json=False)))
    return ExitCode.OK


def _ask(args: argparse.Namespace) -> Reply:
    from agent.adapters.local_api.status_client import Reply, ask

    reply = ask(args.address, "/status", timeout_s=TIMEOUT_S)
    if reply.problem or (reply.status == 200 and isinstance(reply.body, dict)):
        return reply
    return Reply(reply.status, problem=f"the status server answered {reply.status} without a status")


def _watch(args: argparse.Namespace) -> int:
    """Print until Ctrl-C. Keep trying if the agent does not answer, or not yet."""
    if sys.stdout.isatty() and not args.json:
        return _watch_live(args)
    pause = threading.Event()
    while True:
        reply = _ask(args)
        print("\n".join([*_block(reply, as_json=args.json), *([] if args.json else [""])]), flush=True)
        pause.wait(args.every or PIPE_S)


def _watch_live(args: argparse.Namespace) -> int:
    from rich.live import Live
    from rich.text import Text

    from agent.observability.status_view import live

    pause = threading.Event()
    with Live(auto_refresh=False) as screen:
        while True:
            reply = _ask(args)
            screen.update(Text(reply.problem) if reply.problem else live(reply.body), refresh=True)
            pause.wait(args.every or TERMINAL_S)


def _block(reply: Reply, *, as_json: bool) -> list[str]:
    """Return the lines for one reply. JSON is a single line each, so that a reader can parse the stream."""
    from agent.observability.status_view import plain

    if as_json:
        return [json.dumps({"problem": reply.problem} if reply.problem else reply.body)]
    return [f"status: {reply.problem}"] if reply.problem else plain(reply.body)
