"""A driver that is loaded after the agent's container was started, without GPUs (field case 11.2)."""

from __future__ import annotations

from pathlib import Path

from agent.adapters.nvidia.gpus import GpuReader
from agent.adapters.nvidia.nvml_library import driver_watch

SERVICE = {"INVOCATION_ID": "9f2a"}


def load_driver(root: Path) -> None:
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").touch()


def test_it_is_noticed_where_only_a_new_container_can_have_the_library(tmp_path: Path) -> None:
    watch = driver_watch(SERVICE, tmp_path)
    bare = GpuReader(library=lambda: False, device=lambda: True, driver_appeared=watch)
    assert not bare.read().driver_appeared
    load_driver(tmp_path)
    assert bare.read().driver_appeared


def test_a_driver_that_was_there_from_the_start_is_no_news(tmp_path: Path) -> None:
    load_driver(tmp_path)
    assert not driver_watch(SERVICE, tmp_path)()


def test_without_a_service_manager_nobody_would_start_another_container(tmp_path: Path) -> None:
    watch = driver_watch({}, tmp_path)
    load_driver(tmp_path)
    assert not watch()
