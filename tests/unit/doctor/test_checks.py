"""The doctor's checks: which verdict follows from what they find. Only loopback, no sleeping."""

from __future__ import annotations

import gc
import json
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

from agent.core.events import Answer, Probe
from agent.core.tunnel.faults import Fault, FaultKind
from agent.doctor import gateway, gpu, machine, network
from agent.doctor.check import Check, Verdict, ok
from tests.unit.doctor_cases import Make, case_maker, outcomes


@pytest.fixture
def make_case(tmp_path: Path) -> Iterator[Make]:
    yield from case_maker(tmp_path)


def test_incomplete_settings_are_one_failed_check_and_no_crash(make_case: Make) -> None:
    case = make_case(BETA9_SSH_PORT="none")
    found = outcomes([check for check in machine.CHECKS if check.name in {"settings", "token setting"}], case)
    assert found["settings"].verdict is Verdict.FAIL
    assert "BETA9_TOKEN" in found["settings"].seen
    assert "BETA9_SSH_PORT" in found["settings"].seen
    assert found["token setting"].verdict is Verdict.SKIP


def test_a_secret_is_looked_at_and_never_shown(make_case: Make) -> None:
    secret = "a-token-of-this-very-test"
    case = make_case(BETA9_TOKEN=secret)
    found = outcomes([check for check in machine.CHECKS if check.name == "token setting"], case)
    assert found["token setting"].verdict is Verdict.OK
    assert secret not in found["token setting"].seen
    assert secret not in case.redactor.clean(f"it was {secret}")


@pytest.mark.parametrize(
    ("skew_s", "verdict", "text"),
    [
        (0.4, Verdict.OK, "0 s"),
        (-5, Verdict.OK, "5 s"),
        (30, Verdict.WARN, "30 s ahead of"),
        (-30, Verdict.WARN, "30 s behind"),
        (3600, Verdict.FAIL, "3600 s ahead of"),
    ],
)
def test_clocks_that_differ(skew_s: float, verdict: Verdict, text: str) -> None:
    found = gateway._judge_skew(skew_s)
    assert (found.verdict, text in found.seen) == (verdict, True)


@pytest.mark.parametrize(("behind_s", "verdict"), [(0, "ok"), (600, "fail")])
def test_the_clock_is_read_off_the_gateway_s_answer(make_case: Make, behind_s: int, verdict: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            date = datetime.now(timezone.utc) - timedelta(seconds=behind_s)
            self.send_header("Date", format_datetime(date, usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Write nothing to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    case = make_case()
    case.record("forward", gateway.Reached("127.0.0.1", server.server_port, Probe(Answer.ANSWERED)))
    try:
        assert gateway._clock(case).verdict.value == verdict
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_ssh_says_is_parted_from_what_to_do() -> None:
    fault = Fault(FaultKind.AUTH, "ssh: Permission denied (publickey). (put the line there)")
    assert network._split_advice(fault) == ("ssh: Permission denied (publickey).", "put the line there")
    nested = Fault(FaultKind.KEY_FILE, "ssh: Load key (check it (readable))")
    assert network._split_advice(nested) == ("ssh: Load key", "check it (readable)")
    assert network._split_advice(Fault(FaultKind.EXITED, "ssh ended")) == ("ssh ended", network.UNKNOWN)


def write_program(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


LISTED = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)"


@pytest.mark.parametrize(
    ("on_bus", "script", "verdict", "text"),
    [
        (2, f"echo '{LISTED}'", "ok", "2 × NVIDIA H100 80GB HBM3"),  # noqa: RUF001 - as people write it
        (8, f"echo '{LISTED}'", "fail", "but 8 on the PCI bus"),
        (
            1,
            "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9",
            "fail",
            "could not communicate",
        ),
        (1, "true", "fail", "lists no GPU"),
    ],
)
def test_the_driver_is_judged_by_what_nvidia_smi_lists(  # noqa: PLR0917 - pytest gives them by name
    make_case: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_bus: int,
    script: str,
    verdict: str,
    text: str,
) -> None:
    """A script stands in for nvidia-smi and prints what the real one does."""
    write_program(tmp_path, "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    case = make_case()
    case.record("gpu", on_bus)
    found = gpu._driver(case)
    assert (found.verdict.value, text in found.seen) == (verdict, True), found


def test_nvidia_boards_are_told_from_other_devices_on_the_bus(
    tmp_path: Path, make_case: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files in /sys as on a machine with one H100, its NVSwitch bridge and another vendor's display adapter."""
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030200"),
        ("0000:02:00.0", "0x10de", "0x068000"),
        ("0000:03:00.0", "0x1a03", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    monkeypatch.setattr(gpu, "PCI", tmp_path)
    assert gpu._boards(make_case()).found == 1


@pytest.mark.parametrize(
    ("state", "offered", "verdict"),
    [("READY", True, "ok"), ("READY", False, "warn"), ("BACKOFF", False, "fail")],
)
def test_a_running_agent_is_judged_by_its_own_word(
    make_case: Make, state: str, offered: bool, verdict: str
) -> None:
    case = make_case()
    case._status_fetched = True
    case._status = {
        "state": state,
        "since_s": 3,
        "gateway": {"last_error": "refused"},
        "tunnel": {"forward": {"reason": None}},
        "capacity": {"offered": offered, "reason": "k3s does not listen"},
    }
    found = gateway._agent(case)
    assert found.verdict.value == verdict
    assert bool(found.fix) is (verdict != "ok")


def test_the_machine_s_id_is_looked_up_and_never_made(make_case: Make, tmp_path: Path) -> None:
    assert make_case().machine_id() is None
    assert not list(tmp_path.glob("machine*"))
    (tmp_path / "machine.json").write_text(json.dumps({"machine_id": "1165a9b6"}))
    assert make_case().machine_id() == "1165a9b6"
    (tmp_path / "machine.json").write_text("cut o")
    assert make_case().machine_id() is None
    assert make_case(BETA9_MACHINE_ID="aaaaaaaa").machine_id() == "aaaaaaaa"


def test_without_a_tunnel_nothing_of_ssh_is_tried(make_case: Make) -> None:
    case = make_case(BETA9_CONNECTION="direct")
    found = outcomes(
        [*network.CHECKS[1:], Check("ssh key", lambda _: ok("")), Check("ssh client", lambda _: ok(""))], case
    )
    assert {found[name].verdict for name in ("ssh host", "dns", "host key", "login")} == {Verdict.SKIP}


class UnixServer(ThreadingMixIn, UnixStreamServer):
    """A server on a Unix socket, with a thread for each connection."""

    daemon_threads = True


class DockerApi(BaseHTTPRequestHandler):
    """Stands for a Docker Engine with NVIDIA's runtime: the two endpoints that are used, of API version 1.41."""

    runtimes: ClassVar[dict[str, Any]] = {
        "runc": {"path": "runc"},
        "nvidia": {"path": "nvidia-container-runtime"},
    }

    def do_GET(self) -> None:
        version = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        info = {"ServerVersion": "20.10.24", "Runtimes": self.runtimes}
        body = json.dumps(version if self.path.endswith("/version") else info).encode()
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *args: object) -> None:
        """Write nothing to stderr."""


def test_docker_is_asked_for_its_runtimes(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "docker.sock"
    with UnixServer(str(path), DockerApi) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        case = make_case()
        try:
            found = gpu._docker(case)
        finally:
            server.shutdown()
            thread.join()
    assert found.verdict is Verdict.OK
    assert "Docker 20.10.24, runtimes nvidia, runc" in found.seen
    case.record("docker", found.found)
    assert gpu._docker_runtime(case).verdict is Verdict.OK
    case.record("docker", ["runc"])
    assert gpu._docker_runtime(case).verdict is Verdict.WARN


def test_no_docker_is_a_warning_with_the_reason(
    make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with warnings.catch_warnings():
        # The SDK leaves the socket that it could not connect to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        found = gpu._docker(make_case())
        gc.collect()
    assert found.verdict is Verdict.WARN
    assert "No such file or directory" in found.seen
