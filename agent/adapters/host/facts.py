"""This machine's size and load: CPUs, memory, disk, address.

In a container with limits on CPU or memory, the limits count. They are read from the root of the mounted cgroup
hierarchy. On a host, and in a container that shares the host's cgroup namespace, that is the real root, which has no
limits; in any other container it is the container's own group.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

from agent.core.host.facts import HostFacts

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
_OUTBOUND = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): nobody has them, so they take the default route."""


def read_host(state_dir: Path | str, cgroup_root: Path = CGROUP_ROOT, meminfo: Path = MEMINFO) -> HostFacts:
    """Return the machine's current facts without blocking. CPU utilization is since the last call (0 at the first).

    Raises: OSError if /proc cannot be read.
    """
    import psutil

    memory = psutil.virtual_memory()
    limit_bytes = memory_limit_bytes(cgroup_root)
    total_bytes, used_pct = max(0, memory.total - huge_pages_bytes(meminfo)), float(memory.percent)
    if limit_bytes is not None and limit_bytes < total_bytes:
        total_bytes = limit_bytes
        used_pct = min(100.0, 100.0 * (_memory_used_bytes(cgroup_root) or 0) / limit_bytes)
    disk_total_bytes, disk_free_bytes = _disk(Path(state_dir))
    return HostFacts(
        cpu_millicores=cpu_millicores(cgroup_root),
        memory_mib=total_bytes >> 20,
        disk_total_bytes=disk_total_bytes,
        disk_free_bytes=disk_free_bytes,
        cpu_utilization_pct=float(psutil.cpu_percent(interval=None)),
        memory_utilization_pct=used_pct,
        private_ip=private_ip(),
    )


def cpu_millicores(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Return the CPUs that this process may use: its affinity, or the container's quota if that is less."""
    allowed = 1000 * len(os.sched_getaffinity(0))
    quota = _cpu_quota_millicores(cgroup_root)
    return allowed if quota is None else max(1, min(allowed, quota))


def memory_limit_bytes(cgroup_root: Path = CGROUP_ROOT) -> int | None:
    """Return the container's limit, or None. cgroup version 1 writes "no limit" as a number near 2**63."""
    limit = _number(cgroup_root / "memory.max") or _number(cgroup_root / "memory/memory.limit_in_bytes")
    return limit if limit and limit < 1 << 60 else None


def huge_pages_bytes(meminfo: Path = MEMINFO) -> int:
    """Return the memory that is set aside as huge pages of all sizes, which nothing else can use."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    found = next((line.split() for line in lines if line.startswith("Hugetlb:")), [])
    return int(found[1]) << 10 if len(found) == 3 and found[1].isdigit() else 0


def private_ip() -> str:
    """Return the address of the outbound interface, or "". Sends nothing: connecting a UDP socket only routes."""
    for family, remote in _OUTBOUND:
        # OSError: no route, or no such address family.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((remote, 9))
            return str(probe.getsockname()[0])
    return ""


def _cpu_quota_millicores(root: Path) -> int | None:
    version_1 = _words(root / "cpu/cpu.cfs_quota_us") + _words(root / "cpu/cpu.cfs_period_us")
    match _words(root / "cpu.max") or version_1:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return 1000 * int(quota) // int(period)
    return None  # "max", "-1", or no such files


def _memory_used_bytes(root: Path) -> int | None:
    return _number(root / "memory.current") or _number(root / "memory/memory.usage_in_bytes")


def _disk(path: Path) -> tuple[int, int]:
    """Return (total, free) bytes of the file system that holds `path`, or will hold it; zeros if unknown."""
    for candidate in (path, *path.parents):
        try:
            usage = shutil.disk_usage(candidate)
        except OSError:  # does not exist yet
            continue
        return usage.total, usage.free
    return 0, 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None
