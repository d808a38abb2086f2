"""Is this the machine that wrote a file, or one that has a copy of its disk?

What a copied disk does not carry: the firmware's UUID, which every hypervisor and cloud makes anew for a clone, and the
addresses of the network cards. /etc/machine-id, host name and host keys are copied with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PLACEHOLDERS = frozenset(
    {
        # What firmware has where its maker set nothing: the same on thousands of boards.
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
        "12345678-1234-5678-90ab-cddeefaabbcc",
    }
)


@dataclass(frozen=True)
class Hardware:
    """What identifies a machine; empty where that cannot be read (no firmware tables, a container of its own)."""

    uuid: str = ""
    """SMBIOS's product UUID, in lower case."""
    macs: frozenset[str] = frozenset()
    """Permanent addresses of the physical network cards."""

    def is_another(self, other: Hardware) -> bool:
        """Return whether these are certainly two machines. Cards are exchanged, so the UUID decides where it can."""
        if self.uuid and other.uuid:
            return self.uuid != other.uuid
        return bool(self.macs and other.macs) and not self.macs & other.macs

    def as_json(self) -> dict[str, Any]:
        """Return the form in which it is kept."""
        return {"uuid": self.uuid, "macs": sorted(self.macs)}


UNKNOWN = Hardware()


def usable_uuid(text: str) -> str:
    """Return a product UUID as it is compared; "" for one that no machine has to itself."""
    uuid = text.strip().lower()
    is_constant = len(set(uuid.replace("-", ""))) <= 1
    return "" if is_constant or uuid in _PLACEHOLDERS else uuid


def from_json(kept: object) -> Hardware:
    """Return the hardware that was kept; what is not understood counts as unknown."""
    if not isinstance(kept, Mapping):
        return UNKNOWN
    uuid, macs = kept.get("uuid"), kept.get("macs")
    return Hardware(
        uuid if isinstance(uuid, str) else "",
        frozenset(each for each in macs if isinstance(each, str)) if isinstance(macs, list) else frozenset(),
    )
