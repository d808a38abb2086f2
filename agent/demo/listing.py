"""The output of `beta9 machine create` and `beta9 machine list`, reproduced for the demo.

`python -m agent.demo.listing --admin URL create|list|delete` works on a running embedded gateway.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from agent.demo.gateway.admin import GatewayAdmin
from agent.demo.gateway.machines import READY, Machine

COLUMNS = (
    "ID",
    "CPU",
    "Memory",
    "GPU",
    "Status",
    "Pool",
    "Created",
    "Last Keepalive",
    "Agent Version",
    "Free GPU Count",
)


def created_text(machine: Machine) -> str:
    """Return what the CLI prints after `machine create`. This agent accepts the same flags."""
    return (
        f"=> Created machine with ID: '{machine.machine_id}'. "
        "Use the following command to setup the node:\n"
        f'sudo ./agent --token "{machine.registration_token}" \\\n'
        f'    --machine-id "{machine.machine_id}" \\\n'
        '    --tailscale-url "" \\\n'
        '    --tailscale-auth "" \\\n'
        f'    --pool-name "{machine.pool_name}" \\\n'
        f'    --provider-name "{machine.provider}"\n'
    )


def list_text(machines: Iterable[Machine], unix_s: float, width: int = 120) -> str:
    """Return the two tables of `machine list`: GPU types with their availability, and all machines."""
    from rich.box import SIMPLE  # noqa: PLC0415 - takes 60 ms, and only this function needs it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    listed = tuple(machines)
    gpus = Table("GPU Type", "Available", box=SIMPLE)
    for gpu_type in sorted({machine.gpu_type for machine in listed if machine.gpu_type}):
        available = any(m.gpu_type == gpu_type and m.status == READY and m.gpu_count for m in listed)
        gpus.add_row(gpu_type, "✅" if available else "❌")
    gpus.add_section()
    gpus.add_row(f"{gpus.row_count} items")
    rows = Table(*COLUMNS, box=SIMPLE)
    for machine in listed:
        rows.add_row(*_row(machine, unix_s))
    rows.add_section()
    rows.add_row(f"{len(listed)} items")
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(gpus)
    if listed:
        console.print(rows)
    return str(console.file.getvalue())  # type: ignore[attr-defined] # it is the StringIO above


def _row(machine: Machine, unix_s: float) -> tuple[str, ...]:
    metrics = machine.metrics or {}
    return (
        machine.machine_id,
        f"{machine.cpu_millicores:,}m" if machine.cpu_millicores > 0 else "-",
        memory_text(machine.memory_mib) if machine.memory_mib > 0 else "-",
        machine.gpu_type,
        machine.status,
        machine.pool_name,
        age_text(machine.created, unix_s),
        age_text(machine.last_keepalive, unix_s) if machine.last_keepalive else "Never",
        f"v{machine.agent_version}" if machine.agent_version else "-",
        str(metrics.get("free_gpu_count", 0)),
    )


def memory_text(mib: int) -> str:
    """Return MiB in the largest unit of which there is at least one, with two decimals."""
    for unit, size_mib in (("PiB", 1024**3), ("TiB", 1024**2), ("GiB", 1024)):
        if mib >= size_mib:
            return f"{mib / size_mib:.2f} {unit}"
    return f"{mib:.2f} MiB"


def age_text(then: str, unix_s: float) -> str:
    """Return how long ago a time (Unix seconds as text) was, or its date from eight days on."""
    age_s = int(unix_s - int(then))
    if age_s < 0 or age_s >= 8 * 86400:
        return datetime.fromtimestamp(int(then), tz=timezone.utc).strftime("%b %d %Y")
    if age_s <= 1:
        return "just now"
    for unit, size_s in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if age_s >= size_s:
            count = age_s // size_s
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("an age of two seconds or more has a unit")


def main(argv: Sequence[str] | None = None) -> None:
    """Create, list or delete machines on a running embedded gateway."""
    parser = argparse.ArgumentParser(prog="python -m agent.demo.listing")
    parser.add_argument("--admin", required=True, metavar="URL", help="URL of the gateway's admin interface")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create").add_argument("--pool", default="gpu")
    commands.add_parser("list")
    commands.add_parser("delete").add_argument("machine_id")
    args = parser.parse_args(argv)
    admin = GatewayAdmin(args.admin)
    match args.command:
        case "create":
            print(created_text(Machine(**admin.create_machine(args.pool))), end="")
        case "delete":
            print(f"Removed {admin.delete_machine(args.machine_id)} of machine {args.machine_id!r}")
        case _:
            machines = [Machine(**fields) for fields in admin.machines()]
            print(list_text(machines, time.time(), shutil.get_terminal_size((120, 24)).columns), end="")


if __name__ == "__main__":
    main()
