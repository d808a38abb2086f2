"""What is read of a machine's hardware, from a copy of sysfs."""

from __future__ import annotations

from pathlib import Path

from agent.adapters.host.hardware_ids import read_hardware
from agent.core.host.hardware import UNKNOWN, Hardware
from tests.integration.sysfs import write_hardware

UUID = "4c4c4544-0042-3510-8052-b4c04f5a3733"


def interface(sys_class: Path, name: str, **files: str) -> None:
    directory = sys_class / "net" / name
    directory.mkdir(parents=True)
    for file, text in files.items():
        (directory / file).write_text(text + "\n")


def test_the_uuid_and_the_physical_cards_are_read(tmp_path: Path) -> None:
    write_hardware(tmp_path, UUID.upper(), "3C:EC:EF:00:00:01")
    interface(tmp_path, "docker0", address="02:42:00:00:00:01", addr_assign_type="0")
    interface(tmp_path, "changed", address="3c:ec:ef:00:00:02", addr_assign_type="3")
    (tmp_path / "net" / "changed" / "device").mkdir()
    bonded = tmp_path / "net" / "bonded"
    (bonded / "bonding_slave").mkdir(parents=True)
    (bonded / "device").mkdir()
    (bonded / "bonding_slave" / "perm_hwaddr").write_text("3c:ec:ef:00:00:03\n")
    assert read_hardware(tmp_path) == Hardware(UUID, frozenset({"3c:ec:ef:00:00:01", "3c:ec:ef:00:00:03"}))


def test_without_firmware_tables_and_cards_nothing_is_known(tmp_path: Path) -> None:
    assert read_hardware(tmp_path) == UNKNOWN
    assert read_hardware(tmp_path / "missing") == UNKNOWN
