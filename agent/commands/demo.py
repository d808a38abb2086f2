"""`beta9-worker demo`: the whole thing on this machine, with nothing else: gateway, sshd, k3s API, agent."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo", help="watch a machine join an embedded gateway through a real SSH tunnel"
    )
    parser.add_argument("--once", action="store_true", help="stop when the machine is ready")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Run it until Ctrl-C, or with --once until the machine is ready and work arrived."""
    from agent.demo.show import Show

    return Show(once=args.once).run()
