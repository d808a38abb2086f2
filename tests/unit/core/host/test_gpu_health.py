"""What is concluded from NVML's answers, and where its library is looked for. The child: test_gpu_child.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.nvidia.nvml_library import LIBRARY, device_found, library_found
from agent.core.host.gpu_health import FATAL_XIDS, Inventory, observe


def board(number: int, index: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "index": number if index is None else index,
        "uuid": f"GPU-{number}",
        "lost": None,
        "name": "NVIDIA A100",
        "memory_bytes": [3 << 20, 40 << 30],
        "utilization_pct": 7,
        "temperature_c": 40,
        "uncorrected_errors": 0,
        "retirement_pending": None,
        "remap_failed": False,
        "xids": [],
        **changes,
    }


def bad(inventory: Inventory) -> dict[str, str]:
    return {gpu.uuid: str(gpu.reason) for gpu in inventory.gpus if not gpu.healthy}


EIGHT = observe(Inventory(), [board(n) for n in range(8)])


def test_healthy_boards_have_their_figures() -> None:
    first = EIGHT.gpus[0]
    assert bad(EIGHT) == {}
    assert (first.memory_used_mib, first.memory_total_mib, first.temperature_c) == (3, 40960, 40)


def test_a_board_that_only_has_an_index_left_is_the_one_that_was_there() -> None:
    seen = [board(n) for n in range(8) if n != 3] + [{"index": 3, "uuid": None, "lost": "GPU is lost"}]
    after = observe(EIGHT, seen)
    assert bad(after) == {"GPU-3": "NVML: GPU is lost; reset the GPU, or reboot"}
    assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in EIGHT.gpus]
    assert after.gpus[3].utilization_pct is None


def test_indices_that_move_up_after_one_vanished_confuse_nothing() -> None:
    left = [board(n, index=i) for i, n in enumerate(n for n in range(8) if n != 2)]
    after = observe(EIGHT, left)
    assert list(bad(after)) == ["GPU-2"]
    left[4] = {"index": 4, "uuid": None, "lost": "Unknown Error"}  # and now GPU-5 goes, too
    assert list(bad(observe(after, left))) == ["GPU-2", "GPU-5"]


def test_a_board_that_comes_back_is_healthy_again() -> None:
    assert bad(observe(observe(EIGHT, []), [board(n) for n in range(8)])) == {}


@pytest.mark.parametrize(
    ("changes", "healthy"),
    [
        ({"uncorrected_errors": 3}, True),  # remaps rows: the bad one is out of use
        ({"uncorrected_errors": 3, "remap_failed": None}, False),
        ({"uncorrected_errors": None, "remap_failed": None}, True),
        ({"retirement_pending": True}, False),
        ({"retirement_pending": False}, True),
        ({"remap_failed": True}, False),
        ({"lost": "Unknown Error"}, False),
        ({"xids": [13, 31, 43, 45]}, True),
        ({"xids": [31, 79]}, False),
        ({"memory_bytes": None, "name": None, "temperature_c": None}, True),
    ],
)
def test_what_condemns_a_board(changes: dict[str, Any], healthy: bool) -> None:
    assert observe(Inventory(), [board(0, **changes)]).gpus[0].healthy is healthy


@pytest.mark.parametrize("xid", sorted(FATAL_XIDS))
def test_a_fatal_xid_is_not_forgotten(xid: int) -> None:
    once = observe(Inventory(), [board(0, xids=[xid])])
    assert f"Xid {xid}" in bad(observe(once, [board(0)]))["GPU-0"]


boards = st.lists(
    st.builds(
        board,
        number=st.integers(0, 9),
        index=st.integers(0, 9),
        lost=st.sampled_from([None, "GPU is lost"]),
        uuid=st.sampled_from([None, *(f"GPU-{n}" for n in range(10))]),
        xids=st.lists(st.sampled_from([13, 79]), max_size=2),
    ),
    max_size=10,
)


@given(answers=st.lists(boards, max_size=6))
def test_no_board_is_ever_forgotten_or_counted_twice(answers: list[list[dict[str, Any]]]) -> None:
    inventory, seen = Inventory(), set()
    for answer in answers:
        inventory = observe(inventory, answer)
        seen |= {b["uuid"] for b in answer if b["uuid"]}
        uuids = [gpu.uuid for gpu in inventory.gpus]
        assert seen <= set(uuids)
        assert len({u for u in uuids if u.startswith("GPU-")}) == len(
            [u for u in uuids if u.startswith("GPU-")]
        )
        assert all(gpu.healthy == (gpu.reason is None) for gpu in inventory.gpus)


def test_the_library_is_found_where_linkers_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert not library_found(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.cache").write_bytes(b"\0libc.so.6\0" + LIBRARY.encode() + b"\0")
    assert library_found(tmp_path)

    (tmp_path / "etc" / "ld.so.cache").unlink()
    (tmp_path / "opt" / "driver").mkdir(parents=True)
    (tmp_path / "opt" / "driver" / LIBRARY).touch()
    assert not library_found(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", ":/nowhere:/opt/driver")
    assert library_found(tmp_path)


def test_a_board_on_the_bus_is_found_without_its_driver(tmp_path: Path) -> None:
    devices = tmp_path / "sys" / "bus" / "pci" / "devices"
    for name, vendor, kind in (("0", "0x8086", "0x030000"), ("1", "0x10de", "0x040300")):
        (devices / name).mkdir(parents=True)
        (devices / name / "vendor").write_text(vendor + "\n")
        (devices / name / "class").write_text(kind + "\n")
    assert not device_found(tmp_path)  # another maker's display, NVIDIA's audio
    (devices / "1" / "class").write_text("0x030200\n")
    assert device_found(tmp_path)
