"""`beta9-worker health`: one request to the agent's status server, for HEALTHCHECK and service managers."""

from __future__ import annotations

import argparse
import sys

from agent.errors import ExitCode


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "health", help="exit with code 0 if the agent is alive (--ready: if it is ready)"
    )
    parser.add_argument("--ready", action="store_true", help="request /readyz instead of /healthz")
    add_address(parser)
    parser.set_defaults(function=run)


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add the option for the address of the running agent."""
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="the agent's status server [BETA9_STATUS_ADDR]"
    )


def run(args: argparse.Namespace) -> int:
    """Request the agent's health, and print why it is not well."""
    from agent.adapters.local_api.status_client import ask

    path = "/readyz" if args.ready else "/healthz"
    reply = ask(args.address, path, timeout_s=5)
    if reply.status == 200:
        return ExitCode.OK
    print(f"{path}: {reply.problem or reply.status}", file=sys.stderr)
    return ExitCode.FAILED_CHECK
