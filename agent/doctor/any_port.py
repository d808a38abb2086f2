"""The check of the way from ssh to every port of this machine: the agent's, or one that is made for the check."""

from __future__ import annotations

from typing import Any

from agent.adapters.hairpin.keeper import HairpinKeeper
from agent.core.effects import CheckHairpin
from agent.core.hairpin.model import HairpinFaultKind
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.runtime.core_config import make_layout
from agent.settings import ReverseMode

TIMEOUT_S = 2.0
_PLAIN = "the plain form is used: the gateway reaches this machine's k3s alone, and users' functions cannot run here"
_GUIDE = "docs/ssh-tunnel.md, 'The two forms'"


def _any_port(case: Case) -> Finding:
    if not case.is_ssh:
        return skip(
            f"BETA9_CONNECTION is {case.settings.connection.value}: the gateway dials this machine itself"
        )
    if case.settings.reverse is ReverseMode.K3S:
        return warn(f"BETA9_REVERSE is k3s: {_PLAIN}", f"remove BETA9_REVERSE ({_GUIDE})")
    status = case.agent_status()
    return _tried_out(case) if status is None else _of_running_agent(status)


def _of_running_agent(status: dict[str, Any]) -> Finding:
    form, functions = status["tunnel"].get("reverse_form"), status.get("functions") or {}
    if form is None:
        return skip("the running agent is of an older version")
    if not form["any_port"]:
        return warn(f"{form['reason']}", f"{_PLAIN}; {_GUIDE}")
    if not functions.get("can_run"):
        return fail(f"{functions.get('reason')}", f"correct that ({_GUIDE})")
    return ok("the gateway reaches any port of this machine, by way of the running agent")


def _tried_out(case: Case) -> Finding:
    layout = make_layout(case.settings)
    keeper = HairpinKeeper(layout)
    try:
        found = keeper.check(
            CheckHairpin(True, case.found("k3s", str) is not None, inspects=True, timeout_s=TIMEOUT_S)
        )
    finally:
        keeper.close()
    fault = found.fault
    if (
        fault is not None
        and fault.kind is HairpinFaultKind.UNABLE
        and case.settings.reverse is ReverseMode.AUTO
    ):
        return warn(fault.message, f"{_PLAIN}; {_GUIDE}")
    text = fault.message if fault is not None else found.k3s_missed or found.containers
    if text is not None:
        return fail(text, f"correct that ({_GUIDE})")
    return ok(
        f"connections to {layout.inner} come back to this machine's ports; tried out, and removed again"
    )


CHECKS = (Check("any port", _any_port, after=("k3s", "ssh client")),)
