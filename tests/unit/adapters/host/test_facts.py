"""Facts about the machine: the limits of a container count; a bare host has none."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from agent.adapters.host.facts import (
    cpu_millicores,
    huge_pages_bytes,
    memory_limit_bytes,
    private_ip,
    read_host,
)

ALL_MILLICORES = 1000 * len(os.sched_getaffinity(0))


def cgroup(root: Path, **files: str) -> Path:
    """Make a cgroup hierarchy with these files; `__` in a name is a slash, `_DOT_` a dot."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "millicores"),
    [
        ({}, ALL_MILLICORES),
        ({"cpu_DOT_max": "max 100000"}, ALL_MILLICORES),
        ({"cpu_DOT_max": "50000 100000"}, 500),
        ({"cpu_DOT_max": "9900000 100000"}, ALL_MILLICORES),
        ({"cpu_DOT_max": "1 100000"}, 1),
        ({"cpu_DOT_max": "nonsense"}, ALL_MILLICORES),
        ({"cpu__cpu_DOT_cfs_quota_us": "25000", "cpu__cpu_DOT_cfs_period_us": "100000"}, 250),
        ({"cpu__cpu_DOT_cfs_quota_us": "-1", "cpu__cpu_DOT_cfs_period_us": "100000"}, ALL_MILLICORES),
        ({"cpu__cpu_DOT_cfs_quota_us": "25000", "cpu__cpu_DOT_cfs_period_us": "0"}, ALL_MILLICORES),
    ],
)
def test_processors_are_those_of_the_container(
    tmp_path: Path, files: dict[str, str], millicores: int
) -> None:
    assert cpu_millicores(cgroup(tmp_path, **files)) == millicores


def test_processors_are_those_we_may_run_on() -> None:
    one = next(iter(os.sched_getaffinity(0)))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from agent.adapters.host.facts import cpu_millicores; print(cpu_millicores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1000


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"memory_DOT_max": "max"}, None),
        ({"memory_DOT_max": str(512 << 20)}, 512 << 20),
        ({"memory__memory_DOT_limit_in_bytes": str(256 << 20)}, 256 << 20),
        ({"memory__memory_DOT_limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_memory_is_that_of_the_container(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit_bytes(cgroup(tmp_path, **files)) == limit


@pytest.mark.parametrize(
    ("meminfo", "set_aside"),
    [
        ("MemTotal: 25165824 kB\nHugepagesize: 2048 kB\nHugetlb:        16777216 kB\n", 16 << 30),
        ("MemTotal: 25165824 kB\nHugetlb: 0 kB\n", 0),
        ("MemTotal: 25165824 kB\n", 0),
        ("Hugetlb: many kB\n", 0),
    ],
)
def test_huge_pages_are_no_memory_for_others(tmp_path: Path, meminfo: str, set_aside: int) -> None:
    """The kind of field case 8.2, where no node says what is left."""
    file = tmp_path / "meminfo"
    file.write_text(meminfo)
    assert huge_pages_bytes(file) == set_aside
    facts = read_host(tmp_path, cgroup_root=tmp_path / "none", meminfo=file)
    assert facts.memory_mib == max(0, psutil.virtual_memory().total - set_aside) >> 20


def test_a_bare_host_is_reported_whole(tmp_path: Path) -> None:
    facts = read_host(tmp_path, cgroup_root=tmp_path / "none")
    assert facts.cpu_millicores == ALL_MILLICORES
    assert facts.memory_mib == psutil.virtual_memory().total >> 20
    assert 0 < facts.disk_free_bytes <= facts.disk_total_bytes
    assert 0 <= facts.memory_utilization_pct <= 100


def test_a_limited_container_s_use_is_measured_against_its_limit(tmp_path: Path) -> None:
    root = cgroup(tmp_path, memory_DOT_max=str(1 << 30), memory_DOT_current=str(1 << 28))
    facts = read_host(tmp_path, cgroup_root=root)
    assert facts.memory_mib == 1024
    assert facts.memory_utilization_pct == 25.0


def test_the_disk_is_that_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert read_host(tmp_path / "a" / "b").disk_total_bytes == read_host(tmp_path).disk_total_bytes > 0


def test_utilisation_counts_from_the_last_call(tmp_path: Path) -> None:
    read_host(tmp_path)
    sum(range(3_000_000))
    assert 0 < read_host(tmp_path).cpu_utilization_pct <= 100


def test_the_private_address_is_an_address_or_nothing() -> None:
    address = private_ip()
    assert address == "" or not ipaddress.ip_address(address).is_unspecified
