"""`beta9-worker demo`: a self-contained demonstration on this machine: gateway, sshd, k3s API and agent."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "demo", help="watch a machine join an embedded gateway through a real SSH tunnel"
    )
    parser.add_argument("--once", action="store_true", help="stop once the machine is ready")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or with --once until the machine is ready and work has arrived."""
    from agent.demo.show import Show

    return Show(once=args.once).run()
