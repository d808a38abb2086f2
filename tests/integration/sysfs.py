"""Hardware as the kernel shows it in /sys/class, for an agent that is to run on another machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.integration.netns import Place


def write_hardware(sys_class: Path, uuid: str, mac: str) -> Path:
    """Write what one machine with one network card shows; return the directory."""
    (sys_class / "dmi" / "id").mkdir(parents=True)
    (sys_class / "dmi" / "id" / "product_uuid").write_text(uuid + "\n")
    card = sys_class / "net" / "eth0"
    (card / "device").mkdir(parents=True)
    (card / "address").write_text(mac + "\n")
    (card / "addr_assign_type").write_text("0\n")
    return sys_class


@dataclass(frozen=True)
class Hardware(Place):
    """A mount namespace of its own, in which /sys/class is this directory. Needs root."""

    sys_class: str = ""

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command prefix that runs a command here."""
        return ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /sys/class && exec "$@"', self.sys_class)
