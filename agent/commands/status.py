"""`beta9-worker status`: what the running agent says of itself."""

from __future__ import annotations

import argparse
import json
import sys

from agent.commands.health import add_address
from agent.errors import Exit


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("status", help="show what the running agent knows")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    add_address(parser)
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Show it once."""
    from agent.adapters.status_client import ask

    reply = ask(args.address, "/status", timeout_s=5)
    if reply.status != 200 or not isinstance(reply.body, dict):
        print(f"status: {reply.problem or reply.status}", file=sys.stderr)
        return Exit.FAILED_CHECK
    if args.json:
        print(json.dumps(reply.body, indent=2))
        return Exit.OK
    for line in lines(reply.body):
        print(line)
    return Exit.OK


def lines(status: dict[str, object]) -> list[str]:
    """The few lines that answer "why isn't it ready?"."""

    def part(name: str) -> dict[str, object]:
        value = status.get(name)
        return value if isinstance(value, dict) else {}

    tunnel, lease, capacity = part("tunnel"), part("keepalive"), part("capacity")
    told = [
        f"machine   {status.get('machine_id')} in pool {status.get('pool')}: {status.get('state')} "
        f"for {_seconds(status.get('since_s'))}",
        f"gateway   {part('gateway').get('url')}, last answer {_seconds(part('gateway').get('last_ok_s'))} ago",
    ]
    for name in ("forward", "reverse"):
        link = tunnel.get(name)
        if isinstance(link, dict):
            word = "up" if link.get("up") else f"down: {link.get('reason') or 'not needed now'}"
            told.append(f"{name:9} {link.get('address') or ''} {word}")
    told.append(
        f"lease     {_seconds(lease.get('ttl_s'))} left, {lease.get('failures')} keepalives failed in a row"
    )
    offers = "everything" if capacity.get("offered") else f"nothing: {capacity.get('reason')}"
    told.append(
        f"offers    {offers} ({capacity.get('cpu_millicores')}m cpu, {capacity.get('memory_mib')} MiB, "
        f"{capacity.get('free_gpu_count')} of {capacity.get('gpu_count')} GPUs free)"
    )
    degraded = status.get("degraded")
    told += [f"degraded  {text}" for text in degraded] if isinstance(degraded, list) else []
    return told


def _seconds(value: object) -> str:
    return f"{value:.0f} s" if isinstance(value, (int, float)) else "never"
