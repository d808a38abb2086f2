"""Check that the gateway is configured to place workers on machines that connect over SSH.

The rules come from a gateway's source and were verified on a running one; each fix says what happens otherwise.
Values that may be secrets are never shown.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from findings import FAILED, SKIPPED, WARNING, Finding, judged

_ZERO = re.compile(r"0*(m|Ki|Mi|Gi)?")


def findings(path: Path, pool: str | None, provider: str) -> list[Finding]:
    config = _read(path)
    if isinstance(config, Finding):
        return [config]
    found = _tailscale(_at(config, "tailscale"))
    pools = _at(config, "worker", "pools")
    names = [pool] if pool else [name for name in pools if _text(_at(pools, name), "mode") == "external"]
    if not names:
        fix = "add a pool with mode: external and provider: generic"
        return [
            *found,
            Finding("pools", FAILED, f"no external pool ({', '.join(pools) or 'no pools at all'})", fix),
        ]
    for name in names:
        if name not in pools:
            seen = f"not found; existing pools: {', '.join(pools) or 'none'} (names are case-sensitive)"
            found.append(
                Finding(f"pool {name}", FAILED, seen, "set BETA9_POOL_NAME and --pool to one of these")
            )
        else:
            found += _pool(name, _at(pools, name), provider)
    return found


def _read(path: Path) -> dict[str, Any] | Finding:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return Finding(
            "gateway-config", FAILED, f"{path}: {error.strerror}", "give the gateway's configuration file"
        )
    try:
        value = json.loads(text)
    except ValueError as error:
        value = _yaml(path, text, error)
    if isinstance(value, (dict, Finding)):
        return value
    return Finding(
        "gateway-config", FAILED, f"{path} contains no settings", "give the gateway's configuration file"
    )


def _yaml(path: Path, text: str, json_error: ValueError) -> Any:
    if path.suffix == ".json":
        return Finding("gateway-config", FAILED, f"{path} is not JSON: {json_error}", "correct the file")
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - optional
    except ImportError:
        fix = "install python3-yaml, or convert the file to JSON"
        return Finding("gateway-config", SKIPPED, f"{path} is YAML, but PyYAML is not installed", fix)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(
            error, "problem_mark", None
        )  # not the error's text: it quotes the file, secrets included
        seen = f"{path} is not YAML" + (f": see line {mark.line + 1}" if mark else "")
        return Finding("gateway-config", FAILED, seen, "correct the file")


def _at(value: Any, *names: str) -> dict[str, Any]:
    """Return the mapping at this path of case-insensitive names, or {} if there is none."""
    for name in names:
        value = _get(value, name)
    return value if isinstance(value, dict) else {}


def _get(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return None
    exact = value.get(name)
    return exact if exact is not None else {str(k).lower(): v for k, v in value.items()}.get(name.lower())


def _text(value: Any, name: str) -> str:
    found = _get(value, name)
    return "" if found is None else str(found)


def _tailscale(tailscale: dict[str, Any]) -> list[Finding]:
    host = _text(tailscale, "directRedisHost")
    redis = judged(
        "directRedisHost",
        bool(host),
        f"tailscale.directRedisHost {host or 'is not set'}",
        "set it to an address of Redis that workers can reach: without it no worker is ever placed",
    )
    has_key = bool(_text(tailscale, "authKey"))
    login = judged(
        "tailnet-login",
        has_key,
        f"tailscale.authKey {'is set' if has_key else 'is not set'}, controlUrl"
        f" {_text(tailscale, 'controlUrl') or 'is not set'}",
        "log the gateway's process in to some tailnet (a small headscale next to it is enough; workers need not join):"
        " otherwise its first dial to a worker hangs until the gateway is restarted",
        otherwise=WARNING,
    )
    return [redis, login]


def _pool(name: str, pool: dict[str, Any], provider: str) -> list[Finding]:
    sizing = _at(pool, "poolSizing")
    mode, its_provider = _text(pool, "mode"), _text(pool, "provider")
    gpu, worker_gpu = _text(pool, "gpuType"), _text(sizing, "defaultWorkerGpuType")
    free = {key: _text(sizing, key) for key in ("minFreeCpu", "minFreeMemory", "minFreeGpu")}
    kept = [f"{key} {value}" for key, value in free.items() if not _ZERO.fullmatch(value)]
    return [
        judged(f"pool {name}: mode", mode == "external", mode or "not set", "set mode: external"),
        judged(
            f"pool {name}: provider",
            its_provider == provider,
            its_provider or "not set",
            f"set provider: {provider}, or set the workers' BETA9_PROVIDER_NAME to the pool's provider",
        ),
        judged(
            f"pool {name}: gpuType",
            gpu == worker_gpu,
            f"gpuType {gpu or 'not set'}, poolSizing.defaultWorkerGpuType {worker_gpu or 'not set'}",
            f"set poolSizing.defaultWorkerGpuType: {gpu or '(empty)'}; otherwise no worker is placed, silently",
        ),
        judged(
            f"pool {name}: minFree",
            not kept,
            ", ".join(kept) or "all 0",
            "set all three to 0: otherwise the gateway logs an error and leaks a machine token every second",
        ),
    ]
