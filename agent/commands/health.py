"""`beta9-worker health`: one question to the agent's status address, for HEALTHCHECK and service managers."""

from __future__ import annotations

import argparse
import sys

from agent.errors import ExitCode


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "health", help="exit 0 if the running agent is alive (--ready: if it is ready)"
    )
    parser.add_argument("--ready", action="store_true", help="ask /readyz instead of /healthz")
    add_address(parser)
    parser.set_defaults(function=run)


def add_address(parser: argparse.ArgumentParser) -> None:
    """The option that says where the running agent answers."""
    parser.add_argument(
        "--address", help="host:port of the agent's status server (default: BETA9_STATUS_ADDR)"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and say why not."""
    from agent.adapters.local_api.status_client import ask

    path = "/readyz" if args.ready else "/healthz"
    reply = ask(args.address, path, timeout_s=5)
    if reply.status == 200:
        return ExitCode.OK
    print(f"{path}: {reply.problem or reply.status}", file=sys.stderr)
    return ExitCode.FAILED_CHECK
