"""Reading GPUs through a real child process, with standins/nvml/pynvml.py in place of NVML."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.adapters.nvidia.gpus import GpuReader
from agent.adapters.nvidia.nvml_library import MISSING_DRIVER
from agent.core.host.facts import GpuReading
from tests import ROOT
from tests.fake_clock import FakeClock
from tests.integration.agent_process import is_running

STANDIN = Path(__file__).parents[1] / "standins" / "nvml"
SetFault = Callable[[str], None]


@pytest.fixture
def set_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetFault:
    """A function that sets what the stand-in does from now on."""
    script = tmp_path / "script"
    script.write_text("")
    monkeypatch.setenv("NVML_STANDIN", str(script))
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))

    def write(words: str) -> None:
        script.with_suffix(".new").write_text(words)
        script.with_suffix(".new").replace(script)

    return write


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reader(set_fault: SetFault, clock: FakeClock) -> Iterator[GpuReader]:
    reader = GpuReader(timeout_s=20, now_s=clock.now_s, library=lambda: True)
    yield reader
    reader.close()


def unhealthy(reading: GpuReading) -> dict[int, str | None]:
    return {n: gpu.reason for n, gpu in enumerate(reading.gpus) if not gpu.healthy}


def test_eight_boards_are_read_with_their_figures(reader: GpuReader) -> None:
    reading = reader.read()
    assert reading.error is None
    assert len(reading.gpus) == 8
    third = reading.gpus[3]
    assert third.uuid == "GPU-00000003-aaaa-bbbb-cccc-dddddddddddd"
    assert third.name == "NVIDIA H100 80GB HBM3"
    assert (third.utilization_pct, third.temperature_c) == (30, 33)
    assert (third.memory_used_mib, third.memory_total_mib) == (551, 81559)
    assert unhealthy(reading) == {}


def test_figures_that_are_not_supported_are_unknown_and_condemn_nothing(
    reader: GpuReader, set_fault: SetFault
) -> None:
    set_fault("unsupported")
    reading = reader.read()
    assert unhealthy(reading) == {}
    assert reading.gpus[0].utilization_pct is None
    assert reading.gpus[0].memory_total_mib == 81559


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lost:5", "GPU is lost"),
        ("vanished:5", "fell off the bus"),
        ("unknown:5", "Unknown Error"),
        ("remap:5", "row remapping failed"),
        ("pending:5", "memory pages wait to be retired"),
        ("ecc:5", "2 double-bit ECC errors"),
        ("xid:5:79", "Xid 79"),
    ],
)
def test_fault_52_one_of_eight_fails_and_is_named(
    reader: GpuReader, set_fault: SetFault, fault: str, reason: str
) -> None:
    before = reader.read()
    set_fault(fault)
    after = reader.read()
    assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]
    assert list(unhealthy(after)) == [5]
    assert reason in str(after.gpus[5].reason)
    assert after.gpus[5].name == "NVIDIA H100 80GB HBM3"
    assert after.error is None


def test_a_board_lost_before_it_was_ever_seen_counts_as_one(reader: GpuReader, set_fault: SetFault) -> None:
    set_fault("lost:5")
    assert len(reader.read().gpus) == 8
    set_fault("")
    healed = reader.read()
    assert len(healed.gpus) == 8
    assert unhealthy(healed) == {}


def test_an_application_s_own_xid_condemns_nothing_and_a_fatal_one_stays(
    reader: GpuReader, set_fault: SetFault
) -> None:
    set_fault("xid:1:13 xid:2:48")
    assert list(unhealthy(reader.read())) == [2]
    set_fault("")
    assert list(unhealthy(reader.read())) == [2]


@pytest.mark.fault(51)
@pytest.mark.parametrize(("fault", "name"), [("sigfpe", "SIGFPE"), ("abort", "SIGABRT")])
def test_fault_51_nvml_crashes_its_process(
    reader: GpuReader, set_fault: SetFault, clock: FakeClock, fault: str, name: str
) -> None:
    before = reader.read()
    set_fault(fault)
    reading = reader.read()
    assert reading.gpus == before.gpus
    assert reading.error is not None
    assert name in reading.error

    set_fault("")
    assert reader.read().error == reading.error  # still within the pause
    clock.advance(6)
    assert reader.read() == before


@pytest.mark.fault(51)
def test_fault_51_nvml_hangs(set_fault: SetFault, clock: FakeClock) -> None:
    reader = GpuReader(timeout_s=2, now_s=clock.now_s, library=lambda: True)
    try:
        before = read_until_known(reader)
        set_fault("hang")
        began_s = time.monotonic()
        reading = reader.read()
        assert time.monotonic() - began_s < 20  # generous: the limit is 2 s
        assert reading.gpus == before.gpus
        assert "no answer for 2 s" in str(reading.error)

        set_fault("")
        clock.advance(4)
        assert reader.read() == reading  # still within the pause
        clock.advance(2)
        assert read_until_known(reader) == before
    finally:
        reader.close()


def test_the_pause_before_the_next_child_grows(set_fault: SetFault, clock: FakeClock) -> None:
    """NVML hangs at each start. The library is looked up once before each start."""
    starts: list[float] = []

    def library() -> bool:
        starts.append(clock.now_s())
        return True

    reader = GpuReader(timeout_s=0.05, start_timeout_s=0.05, now_s=clock.now_s, library=library)
    set_fault("hang-init")
    try:
        for _ in range(120):
            reader.read()
            clock.advance(1)
    finally:
        reader.close()
    assert [round(b - a) for a, b in itertools.pairwise(starts)] == [5, 10, 30, 60]


def read_until_known(reader: GpuReader) -> GpuReading:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        reading = reader.read()
        if reading.error is None:
            return reading
        assert "starting" in reading.error
    raise AssertionError("the NVML child never became ready")


def test_a_slow_start_is_waited_for_and_a_hanging_one_is_not(set_fault: SetFault, clock: FakeClock) -> None:
    set_fault("hang-init")
    reader = GpuReader(timeout_s=0.2, start_timeout_s=1.0, now_s=clock.now_s, library=lambda: True)
    try:
        assert "starting" in str(reader.read().error)
        error = "starting"
        deadline_s = time.monotonic() + 30
        while "starting" in error and time.monotonic() < deadline_s:
            error = str(reader.read().error)
        assert error == "NVML did not start in time"
        assert reader.pid is None
    finally:
        reader.close()


def test_a_driver_that_went_away_is_said_and_found_again(
    reader: GpuReader, set_fault: SetFault, clock: FakeClock
) -> None:
    before = reader.read()
    set_fault("driver-gone")
    assert reader.read().error == "NVML: Driver Not Loaded"
    clock.advance(6)
    assert reader.read().error == "NVML: Driver Not Loaded"
    set_fault("")
    clock.advance(11)
    assert reader.read() == before


def test_what_the_library_prints_does_not_disturb_the_answers(reader: GpuReader, set_fault: SetFault) -> None:
    set_fault("chatter")
    assert len(reader.read().gpus) == 8


def test_a_machine_without_the_library_has_no_boards_and_no_child(set_fault: SetFault) -> None:
    reader = GpuReader(library=lambda: False, device=lambda: False)
    assert reader.read() == GpuReading()
    assert reader.pid is None


def test_a_driver_that_is_installed_later_is_taken_up(set_fault: SetFault, clock: FakeClock) -> None:
    installed: list[bool] = []
    reader = GpuReader(timeout_s=20, now_s=clock.now_s, library=lambda: bool(installed), device=lambda: True)
    try:
        assert reader.read() == GpuReading((), MISSING_DRIVER)
        installed.append(True)
        assert len(read_until_known(reader).gpus) == 8
    finally:
        reader.close()


def test_a_machine_with_boards_and_no_library_says_what_to_do() -> None:
    reader = GpuReader(library=lambda: False, device=lambda: True)
    assert "install or load the driver" in str(reader.read().error)
    assert reader.pid is None


def test_the_child_dies_with_the_agent(set_fault: SetFault, tmp_path: Path) -> None:
    """Even while NVML hangs, so that nothing reads the pipe that closes with the agent."""
    set_fault("hang-init")
    code = (
        "import time; from agent.adapters.nvidia.gpus import GpuReader\n"
        "r = GpuReader(timeout_s=0.1, library=lambda: True); r.read(); print(r.pid, flush=True)\n"
        "time.sleep(600)"
    )
    env = {**os.environ, "PYTHONPATH": f"{Path.cwd()}:{STANDIN}"}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline_s = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_running(child)


def test_every_nvml_name_the_child_uses_exists_in_the_real_bindings() -> None:
    import pynvml

    source = (ROOT / "agent/adapters/nvidia/nvml_child.py").read_text()
    used = set(re.findall(r"nvml\.((?:nvml|NVML)\w+)", source))
    assert len(used) > 20
    assert [name for name in used if not hasattr(pynvml, name)] == []


def test_one_child_serves_all_readings(reader: GpuReader) -> None:
    reader.read()
    first = reader.pid
    assert first is not None
    for _ in range(20):
        reader.read()
    assert reader.pid == first
