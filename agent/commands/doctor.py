"""`beta9-worker doctor`: check every prerequisite and explain how to fix what is wrong; change nothing."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypedDict

from agent import __version__
from agent.errors import ExitCode
from agent.settings import Connection, add_arguments, examine

if TYPE_CHECKING:
    from agent.doctor.check import Check, Result

DEFAULT_OUTBOUND = "github.com:443"
"""Every bootstrap needs it: k3s and NVIDIA's toolkit are released there."""


class FindingJson(TypedDict):
    """One check in the output of `--json`."""

    group: str
    name: str
    verdict: str
    """`ok`, `warn`, `fail` or `skip`."""
    seen: str
    fix: str | None
    took_s: float
    """Seconds."""


class ReportJson(TypedDict):
    """The output of `--json`."""

    ok: bool
    """Whether no check failed."""
    version: str
    checks: list[FindingJson]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "doctor",
        help="check every prerequisite and explain how to fix what is wrong",
        description="Check every prerequisite. This changes nothing, registers nothing and does not disturb a running "
        "agent. The exit code is 1 if a check fails.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--outbound",
        metavar="HOST:PORT",
        default=DEFAULT_OUTBOUND,
        help="server that must be reachable on the internet [%(default)s]",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Run the checks and print the report."""
    from agent.doctor.case import Case
    from agent.doctor.check import Verdict
    from agent.doctor.runner import run_checks

    settings, errors = examine(vars(args), os.environ)
    os.environ.update(settings.proxies)
    case = Case(settings, errors, args.outbound)
    try:
        results = run_checks(_groups(settings.connection), case)
    finally:
        case.close()
    failed = [result.name for result in results if result.finding.verdict is Verdict.FAIL]
    text = json.dumps(_as_json(results), indent=2) if args.json else "\n".join(_as_text(results, failed))
    print(case.redactor.clean(text))
    return ExitCode.FAILED_CHECK if failed else ExitCode.OK


def _groups(connection: Connection) -> dict[str, tuple[Check, ...]]:
    from agent.doctor import any_port, gateway, gpu, kubernetes, machine, network, tailnet, worker_jobs

    groups: dict[str, tuple[Check, ...]] = {
        "machine": machine.CHECKS,
        "gpu and containers": gpu.CHECKS,
        "network and ssh": network.CHECKS,
        "gateway": gateway.CHECKS if connection is Connection.SSH else gateway.WITHOUT_TUNNEL,
        "kubernetes": (*kubernetes.CHECKS, *any_port.CHECKS, *worker_jobs.CHECKS),
    }
    if connection is Connection.TAILSCALE:
        groups |= {"tailnet": tailnet.CHECKS, "gateway": gateway.IN_A_TAILNET}
    return groups


def _as_json(results: Iterable[Result]) -> ReportJson:
    checks: list[FindingJson] = [
        {
            "group": result.group,
            "name": result.name,
            "verdict": result.finding.verdict.value,
            "seen": result.finding.seen,
            "fix": result.finding.fix or None,
            "took_s": round(result.took_s, 3),
        }
        for result in results
    ]
    return {
        "ok": all(check["verdict"] != "fail" for check in checks),
        "version": __version__,
        "checks": checks,
    }


def _as_text(results: Sequence[Result], failed: list[str]) -> Iterable[str]:
    group = ""
    for result in results:
        if result.group != group:
            group = result.group
            yield f"{group}:"
        verdict = result.finding.verdict.value
        yield f"  {verdict.upper() if verdict == 'fail' else verdict:5} {result.name:22} {result.finding.seen}"
        if result.finding.fix:
            yield f"        {'':22} → {result.finding.fix}"
    yield (
        f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}"
        if failed
        else f"{len(results)} checks, none failed"
    )
