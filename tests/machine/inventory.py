"""What is on a machine, as far as an uninstaller has to leave it as it was: files, packages, units, firewall, links."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass

from tests.machine.vm import VirtualMachine

# What changes by itself while a machine runs, whoever is installed on it; Docker's own is asked of Docker.
_RUNNING = (
    "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /home /root/.cache /var/lib/systemd /var/lib/cloud"
    " /var/lib/private /var/lib/docker /var/lib/containerd /lost+found"
)
_PRUNE = "\\( " + " -o ".join(f"-path {path}" for path in _RUNNING.split()) + " \\) -prune"
_NAMES = " -o ".join(f"-iname '*{word}*'" for word in ("beta9", "k3s", "rancher", "kubelet", "cni"))
_COMMANDS = {
    "files": f"find / -xdev {_PRUNE} -o -printf '%y %m %U:%G %p %l\\n' | sort",
    # A file that was put back must be the file that was there.
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
        """What came (`+`) and what went (`-`), a line each."""
        told = []
        for kind, before in self.kinds.items():
            after = later.kinds[kind]
            told += [f"- {kind}: {line}" for line in sorted(before - after)]
            told += [f"+ {kind}: {line}" for line in sorted(after - before)]
        return told


def take(vm: VirtualMachine) -> Inventory:
    """Look at the machine, in one visit."""
    script = "\n".join(f"echo {_MARK}{kind}; {command}" for kind, command in _COMMANDS.items())
    # A busy machine keeps systemctl waiting for longer than the 25 s that it gives itself, and it then lists nothing.
    script = f"export SYSTEMD_BUS_TIMEOUT=300\n{script}"
    # Packed: it is more than the megabyte that is kept of a command's output.
    packed = vm.told(f"{{\n{script}\n}} | gzip | base64 --wrap=0", 1800)
    told = gzip.decompress(base64.b64decode(packed)).decode()
    parts = [part.partition("\n") for part in told.split(_MARK)[1:]]
    assert [kind for kind, _, _ in parts] == list(_COMMANDS)
    assert _NEVER_EMPTY & {kind for kind, _, text in parts if not text.strip()} == set()
    return Inventory({kind: frozenset(text.splitlines()) for kind, _, text in parts})
