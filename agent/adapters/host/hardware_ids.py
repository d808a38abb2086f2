"""Reads what identifies this machine's hardware, from sysfs. Never raises: what cannot be read is unknown."""

from __future__ import annotations

from pathlib import Path

from agent.core.host.hardware import Hardware, usable_uuid

SYS_CLASS = Path("/sys/class")
_PERMANENT = "0"
"""`addr_assign_type` of an address that the card itself has (linux/netdevice.h, NET_ADDR_PERM)."""


def read_hardware(sys_class: Path = SYS_CLASS) -> Hardware:
    """Return this machine's hardware. The UUID can be read by root alone, the cards in the host's network alone."""
    uuid = usable_uuid(_text(sys_class / "dmi" / "id" / "product_uuid"))
    return Hardware(uuid, frozenset(filter(None, map(_permanent_address, _cards(sys_class / "net")))))


def _cards(net: Path) -> list[Path]:
    """Return the interfaces that are devices: not bridges, tunnels or a container's."""
    try:
        return sorted(each for each in net.iterdir() if (each / "device").exists())
    except OSError:
        return []


def _permanent_address(card: Path) -> str:
    # A bond gives all its cards one address; each keeps its own here.
    of_bonded = _text(card / "bonding_slave" / "perm_hwaddr")
    if of_bonded:
        return of_bonded.lower()
    return _text(card / "address").lower() if _text(card / "addr_assign_type") == _PERMANENT else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
