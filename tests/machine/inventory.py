"""An inventory of a machine, to verify that the uninstaller restores it: files, packages, units, firewall, links."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

from tests.machine.vm import VirtualMachine

# Paths that change while any machine runs. Docker's data is listed through Docker instead.
_RUNNING = (
    "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /home /root/.cache /var/lib/systemd /var/lib/cloud"
    " /var/lib/private /var/lib/docker /var/lib/containerd /lost+found"
)
_PRUNE = "\\( " + " -o ".join(f"-path {path}" for path in _RUNNING.split()) + " \\) -prune"
_NAMES = " -o ".join(f"-iname '*{word}*'" for word in ("beta9", "k3s", "rancher", "kubelet", "cni"))
_COMMANDS = {
    "files": f"find / -xdev {_PRUNE} -o -printf '%y %m %U:%G %p %l\\n' | sort",
    # A restored file must have its original content.
    "contents": f"find /etc /usr/local /opt /root /var/lib -xdev {_PRUNE} -o -type f -print0 | xargs -0 -r sha256sum",
    "traces": (
        "find / -xdev \\( -path /proc -o -path /sys -o -path /var/lib/cloud -o -path /usr/share -o -path /usr/lib \\)"
        f" -prune -o \\( {_NAMES} \\) -print; find /run \\( {_NAMES} \\) -print"
    ),
    "packages": "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n'",
    "holds": "apt-mark showhold",
    "units": "systemctl list-unit-files --no-legend --no-pager | awk '{ print $1, $2 }' | sort",
    "firewall": "nft list ruleset | sed -E 's/packets [0-9]+ bytes [0-9]+/packets/'",
    "links": "ls /sys/class/net",
    "mounts": "findmnt -rn -o TARGET,SOURCE,FSTYPE | grep -vE '^/(proc|sys|dev|run)' | sort",
    "disks": "lsblk -rno NAME,FSTYPE,LABEL",
    "docker": "docker image ls --all --quiet --no-trunc; docker ps --all --quiet; docker volume ls --quiet",
}

_NEVER_EMPTY = {"files", "contents", "packages", "units", "links", "mounts", "disks"}
_MARK = "=== "


@dataclass(frozen=True)
class Inventory:
    """Lines by kind."""

    kinds: dict[str, frozenset[str]]

    def differences(self, later: Inventory) -> list[str]:
        """Return what was added (`+`) and removed (`-`), one line each."""
        lines = []
        for kind, before in self.kinds.items():
            after = later.kinds[kind]
            lines += [f"- {kind}: {line}" for line in sorted(before - after)]
            lines += [f"+ {kind}: {line}" for line in sorted(after - before)]
        return lines


def take(vm: VirtualMachine) -> Inventory:
    """Take the inventory of a machine, in one SSH session."""
    script = "\n".join(f"echo {_MARK}{kind}; {command}" for kind, command in _COMMANDS.items())
    # On a busy machine systemctl may wait longer than its default of 25 s, and would then list nothing.
    script = f"export SYSTEMD_BUS_TIMEOUT=300\n{script}"
    # Compressed, since it exceeds the megabyte that is kept of a command's output.
    packed = vm.output(f"{{\n{script}\n}} | gzip | base64 --wrap=0", 1800)
    text = gzip.decompress(base64.b64decode(packed)).decode()
    parts = [part.partition("\n") for part in text.split(_MARK)[1:]]
    assert [kind for kind, _, _ in parts] == list(_COMMANDS)
    assert _NEVER_EMPTY & {kind for kind, _, lines in parts if not lines.strip()} == set()
    return Inventory({kind: frozenset(lines.splitlines()) for kind, _, lines in parts})
