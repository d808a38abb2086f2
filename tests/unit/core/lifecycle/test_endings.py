"""Every way in which a first start ends in failure: what failed, which setting, and what to do now.

One table over all of them, so that no ending leaves a person without the next step.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from agent.core.context import Context
from agent.core.lifecycle import exits
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind, read_reply
from agent.core.tunnel import ssh_stderr
from agent.core.tunnel.faults import Fault, FaultKind
from agent.core.tunnel.model import Link
from agent.errors import ExitCode
from tests import ROOT
from tests.unit.core_cases import NOW_S, POLICY, placeable, with_config


@dataclass(frozen=True)
class Ending:
    """What the last line must say: each a regular expression, the setting empty if none is at fault."""

    failed: str
    setting: str
    action: str


def _answer(status: int, message: str, kind: CallKind = CallKind.CHECK) -> Outcome:
    return read_reply(kind, status, json.dumps({"message": message}).encode())


# What the adapter reports for a secret that cannot be read stands in tests/integration/runtime/secret_sources.
REFUSALS: dict[OutcomeKind, list[tuple[Outcome, Ending]]] = {
    OutcomeKind.UNAUTHORIZED: [
        (
            _answer(401, "Unauthorized"),
            Ending(
                "401 Unauthorized", "BETA9_TOKEN", "beta9 machine create --pool POOL.*database may be down"
            ),
        )
    ],
    OutcomeKind.FORBIDDEN: [
        (
            _answer(403, "Invalid token"),
            Ending("403 Invalid token", "BETA9_TOKEN", "use the one that 'beta9 machine create"),
        )
    ],
    OutcomeKind.NO_ROUTE: [
        (_answer(404, "Not Found"), Ending("404 Not Found", "BETA9_SSH_TARGET", "update the gateway"))
    ],
    OutcomeKind.BAD_POOL: [
        (
            _answer(500, "Invalid pool name", CallKind.REGISTER),
            Ending("500 Invalid pool name", "BETA9_POOL_NAME", "correct it, or add the pool"),
        )
    ],
    OutcomeKind.BAD_REQUEST: [
        (
            _answer(400, "Invalid payload"),
            Ending("400 Invalid payload", "BETA9_GATEWAY_HOST", "check .* update"),
        ),
        (
            _answer(500, "Invalid machine cpu value", CallKind.REGISTER),
            Ending("500 Invalid machine cpu value", "BETA9_GATEWAY_HOST", "check .* update"),
        ),
        (read_reply(CallKind.CHECK, 400, b"<html>"), Ending("400", "BETA9_GATEWAY_PORT", "check .* update")),
    ],
}
READ_FROM_SECRETS = {OutcomeKind.SECRET, OutcomeKind.UNUSABLE}


def test_the_table_has_every_refusal() -> None:
    assert set(REFUSALS) | READ_FROM_SECRETS == set(exits.REFUSALS)
    for kind, rows in REFUSALS.items():
        assert {outcome.kind for outcome, _ in rows} == {kind}


@pytest.mark.parametrize(("outcome", "ending"), [row for rows in REFUSALS.values() for row in rows])
def test_a_refusal_names_its_setting_and_what_to_do(outcome: Outcome, ending: Ending) -> None:
    decision = exits.after_refusal(placeable(), outcome).exit_decision
    assert decision is not None
    _check(decision.reason, ending)


RECORDED = json.loads((ROOT / "tests/unit/data/ssh_stderr.json").read_text(encoding="utf-8"))
FAULTS = [ssh_stderr.fault_at_exit(each["stderr"].splitlines(), 255) for each in RECORDED]
LINK_ENDINGS = {
    FaultKind.AUTH: Ending("Permission denied|Too many|no matching", "", "authorize|update the older one"),
    FaultKind.HOST_KEY: Ending("[Hh]ost key|REMOTE HOST", "BETA9_SSH_(KNOWN_HOSTS|HOST_KEY)", "put|replace"),
    FaultKind.KEY_FILE: Ending("Load key|accessible|permissions", "BETA9_SSH_KEY", "check"),
    FaultKind.NO_SSH: Ending("No user exists|option", "", "run as root|update it to"),
}
"""What real ssh clients have printed; AUTH covers a missing algorithm, too, where no setting is at fault."""


def test_the_recorded_faults_cover_every_ending_that_ssh_reports() -> None:
    fatal = {fault.kind for fault in FAULTS} & set(exits.LINK_FAULTS)
    assert fatal == set(LINK_ENDINGS)
    assert set(exits.LINK_FAULTS) - fatal == {FaultKind.SECRET}


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.kind in LINK_ENDINGS], ids=str)
def test_a_fault_of_ssh_names_its_setting_and_what_to_do(fault: Fault) -> None:
    decision = exits.decide_exit(placeable(api=Link(fault=fault)), Context(NOW_S, POLICY)).exit_decision
    assert decision is not None
    _check(decision.reason, LINK_ENDINGS[fault.kind])


def test_a_port_that_stays_taken_names_its_setting_and_what_to_do() -> None:
    fault = ssh_stderr.fault_at_exit(
        ["bind [127.0.0.1]:1994: Address already in use", "Could not request local forwarding."], 255
    )
    state = placeable(api=Link(fault=fault, conflict_since_s=NOW_S - POLICY.conflict_s))
    decision = exits.decide_exit(state, Context(NOW_S, POLICY)).exit_decision
    assert decision is not None
    _check(
        decision.reason,
        Ending("local forwarding.*tried for 15 s", "BETA9_GATEWAY_PORT", "stop what holds it"),
    )


def test_once_names_the_last_error_and_where_to_look() -> None:
    late = Context(POLICY.once_deadline_s, POLICY)
    refused = ssh_stderr.fault_at_exit(["ssh: connect to host gw port 22: Connection refused"], 255)
    causes: tuple[dict[str, Any], ...] = (
        {"last_error": "the gateway answered 502 (empty)"},
        {"api": Link(fault=refused)},
        {},
    )
    for changes in causes:
        decision = exits.decide_exit(replace(with_config(once=True), **changes), late).exit_decision
        assert decision is not None
        _check(decision.reason, Ending("not registered within 60 s: .", "", "'beta9-worker doctor' checks"))


@pytest.mark.parametrize(
    "code", [code for code in ExitCode if code not in {ExitCode.OK, ExitCode.FAILED_CHECK}]
)
def test_every_failure_says_what_a_service_does_next(code: ExitCode) -> None:
    assert exits.AFTERWARDS[code]


def test_what_it_says_of_the_service_is_what_the_unit_does() -> None:
    unit = (ROOT / "bootstrap/systemd/beta9-worker.service").read_text(encoding="utf-8")
    assert "RestartSec=30\n" in unit
    assert f"RestartPreventExitStatus={int(ExitCode.UNUSABLE)}\n" in unit
    for code in (ExitCode.BUG, ExitCode.REFUSED):
        assert "30 s" in exits.AFTERWARDS[code]
    assert "does not start" in exits.AFTERWARDS[ExitCode.UNUSABLE]


def _check(reason: str, ending: Ending) -> None:
    for part in (ending.failed, ending.setting, ending.action):
        assert re.search(part, reason), f"{part!r} is not in: {reason}"
