"""`beta9-worker doctor`: look at every prerequisite, say what is wrong and how to mend it; change nothing."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.errors import ExitCode
from agent.settings import Connection, add_arguments, examine

if TYPE_CHECKING:
    from agent.doctor.check import Result

DEFAULT_OUTBOUND = "github.com:443"
"""k3s and NVIDIA's toolkit are released there, so every bootstrap goes there."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "doctor",
        help="look at every prerequisite and say how to mend what is wrong",
        description="Looks at every prerequisite; changes nothing, registers nothing, and disturbs no agent that "
        "runs. Exit code 1 if a check fails.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")
    parser.add_argument(
        "--outbound",
        metavar="HOST:PORT",
        default=DEFAULT_OUTBOUND,
        help="what must be reachable on the internet (default %(default)s)",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    from agent.doctor.case import Case
    from agent.doctor.check import Verdict
    from agent.doctor.runner import run_checks

    settings, problems = examine(vars(args), os.environ)
    case = Case(settings, problems, args.outbound)
    try:
        results = run_checks(_groups(settings.connection), case)
    finally:
        case.close()
    failed = [result.name for result in results if result.finding.verdict is Verdict.FAIL]
    text = json.dumps(_as_json(results), indent=2) if args.json else "\n".join(_as_text(results, failed))
    print(case.redactor.clean(text))
    return ExitCode.FAILED_CHECK if failed else ExitCode.OK


def _groups(connection: Connection) -> dict[str, tuple[Any, ...]]:
    from agent.doctor import gateway, gpu, kubernetes, machine, network, tailnet

    groups: dict[str, tuple[Any, ...]] = {
        "machine": machine.CHECKS,
        "gpu and containers": gpu.CHECKS,
        "network and ssh": network.CHECKS,
        "gateway": gateway.CHECKS if connection is Connection.SSH else gateway.WITHOUT_TUNNEL,
        "kubernetes": kubernetes.CHECKS,
    }
    if connection is Connection.TAILSCALE:
        groups |= {"tailnet": tailnet.CHECKS, "gateway": gateway.IN_A_TAILNET}
    return groups


def _as_json(results: Iterable[Result]) -> dict[str, Any]:
    rows = [
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
    return {"ok": all(row["verdict"] != "fail" for row in rows), "version": __version__, "checks": rows}


def _as_text(results: Iterable[Result], failed: list[str]) -> Iterable[str]:
    group = ""
    count = 0
    for result in results:
        count += 1
        if result.group != group:
            group = result.group
            yield f"{group}:"
        verdict = result.finding.verdict.value
        yield f"  {verdict.upper() if verdict == 'fail' else verdict:5} {result.name:22} {result.finding.seen}"
        if result.finding.fix:
            yield f"        {'':22} → {result.finding.fix}"
    yield (
        f"{len(failed)} of {count} checks failed: {', '.join(failed)}"
        if failed
        else f"{count} checks, none failed"
    )
